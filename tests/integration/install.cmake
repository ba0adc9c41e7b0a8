# What cmake --install leaves, and the programs outside that build on it. Not with sanitizers: those programs would
# have to be built with them too.
if(NOT MEMPOOL_SANITIZE)
  set(prefix ${CMAKE_CURRENT_BINARY_DIR}/prefix)
  set(run ${PROJECT_SOURCE_DIR}/tests/install/run)

  add_test(NAME install COMMAND sh -c "rm -rf '${prefix}' && '${CMAKE_COMMAND}' --install '${PROJECT_BINARY_DIR}' --prefix '${prefix}'")
  set_tests_properties(install PROPERTIES FIXTURES_SETUP installed TIMEOUT 60 LABELS integration)

  add_test(NAME install_symbols
    COMMAND ${PROJECT_SOURCE_DIR}/tests/lib/check_symbols ${prefix}/lib/libmempool-client.so.0
      ${PROJECT_SOURCE_DIR}/client/mempool-client.sym ${prefix}/include)
  foreach(route tree headers pkg-config pkg-config-static cmake cmake-static libdir readme)
    add_test(NAME install_${route} COMMAND ${run} ${prefix} ${route})
    set_tests_properties(install_${route} PROPERTIES ENVIRONMENT CC=${CMAKE_C_COMPILER})
    list(APPEND tests install_${route})
  endforeach()
  set_tests_properties(install_symbols ${tests} PROPERTIES
    FIXTURES_REQUIRED installed SKIP_RETURN_CODE 77 TIMEOUT 120 LABELS integration)
endif()
