add_executable(bench_pool pool.c)
target_link_libraries(bench_pool PRIVATE mempool_pool mempool_proto mempool_flags)
add_executable(bench_lease lease.c)
target_link_libraries(bench_lease PRIVATE mempool_pool mempool_proto mempool_flags)
