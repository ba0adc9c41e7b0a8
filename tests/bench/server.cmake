add_executable(bench_request request.c echo.c)
target_link_libraries(bench_request PRIVATE mempool-client mempool_test_lib mempool_proto mempool_flags PkgConfig::UV)
