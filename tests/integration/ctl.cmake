# mempoolctl as its users see it: words in, words and exit codes out.
find_program(PYTHON3 python3 PATHS /usr/bin NO_DEFAULT_PATH)
find_program(PYTHON3 python3)
foreach(name test_ctl test_ctl_live test_ctl_lost)
  if(NOT PYTHON3)
    add_test(NAME ${name} COMMAND sh -c "echo 'skipped: needs python3 (apt-get install python3)'; exit 77")
  else()
    add_test(NAME ${name} COMMAND ${PYTHON3} -B ${CMAKE_CURRENT_SOURCE_DIR}/${name}.py
      ${PROJECT_BINARY_DIR}/daemon/mempoold ${PROJECT_BINARY_DIR}/client/ctl/mempoolctl)
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT 300 COST 30 LABELS integration SKIP_RETURN_CODE 77)
endforeach()
