foreach(noun config instance limits options value)
  mempool_test(test_${noun} SOURCES test_${noun}.c LIBS mempool_daemon LABELS unit)
endforeach()
mempool_test(test_log SOURCES test_log.c LIBS mempool_daemon LABELS unit concurrent)
target_compile_definitions(test_config PRIVATE EXAMPLE="${PROJECT_SOURCE_DIR}/daemon/mempoold.conf.example")

add_test(NAME test_unit_file COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/test_unit_file
  ${PROJECT_BINARY_DIR}/daemon/verify/mempoold.service)
set_tests_properties(test_unit_file PROPERTIES TIMEOUT 60 LABELS unit SKIP_RETURN_CODE 77)
