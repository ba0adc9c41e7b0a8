add_executable(bench_heap heap.c ${PROJECT_SOURCE_DIR}/tests/lib/grantor.c
  ${PROJECT_SOURCE_DIR}/client/heap.c ${PROJECT_SOURCE_DIR}/client/shelf.c ${PROJECT_SOURCE_DIR}/client/lease_map.c)
target_link_libraries(bench_heap PRIVATE mempool_flags)
target_compile_options(bench_heap PRIVATE -UNDEBUG) # the grantor asserts instead of failing
add_executable(bench_memory memory.c)
target_link_libraries(bench_memory PRIVATE mempool-client mempool_test_lib mempool_flags)
