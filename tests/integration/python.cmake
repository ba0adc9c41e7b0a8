# A client in another language, made from the contract alone.
# The system's own first: another one in the PATH does not see Debian's packages.
find_program(PYTHON3_PROTOBUF python3 PATHS /usr/bin NO_DEFAULT_PATH)
find_program(PYTHON3_PROTOBUF python3)
if(PYTHON3_PROTOBUF)
  execute_process(COMMAND ${PYTHON3_PROTOBUF} -c "import google.protobuf" RESULT_VARIABLE no_protobuf ERROR_QUIET)
endif()
if(NOT PYTHON3_PROTOBUF OR no_protobuf OR NOT PROTOC)
  add_test(NAME test_python_client COMMAND sh -c
    "echo 'skipped: needs python3, python3-protobuf and protobuf-compiler (apt-get install)'; exit 77")
else()
  set(pb2 ${CMAKE_CURRENT_BINARY_DIR}/mempool_pb2.py)
  add_custom_command(OUTPUT ${pb2}
    COMMAND ${PROTOC} --python_out=${CMAKE_CURRENT_BINARY_DIR} --proto_path=${PROJECT_SOURCE_DIR}/proto mempool.proto
    DEPENDS ${PROJECT_SOURCE_DIR}/proto/mempool.proto)
  add_custom_target(mempool_pb2 ALL DEPENDS ${pb2})
  add_dependencies(mempool_pb2 mempoold)
  add_test(NAME test_python_client COMMAND ${PYTHON3_PROTOBUF} ${CMAKE_CURRENT_SOURCE_DIR}/client.py
    ${PROJECT_BINARY_DIR}/daemon/mempoold ${CMAKE_CURRENT_BINARY_DIR})
endif()
set_tests_properties(test_python_client PROPERTIES TIMEOUT 60 LABELS integration SKIP_RETURN_CODE 77)
