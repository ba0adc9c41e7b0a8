foreach(noun backing budget lease lease_hostile pool pool_model quota registry segment)
  mempool_test(test_${noun} SOURCES test_${noun}.c LIBS mempool_pool LABELS unit)
endforeach()
mempool_test(test_pool_fault SOURCES test_pool_fault.c LIBS mempool_pool mempool_fault LABELS unit)
mempool_test(test_pool_threads SOURCES test_pool_threads.c LIBS mempool_pool LABELS unit concurrent)

# The pool's code once more, so that each access to the lease segment calls the test: it can kill the daemon there.
get_target_property(pool_sources mempool_pool SOURCES)
list(TRANSFORM pool_sources PREPEND ${PROJECT_SOURCE_DIR}/daemon/pool/)
add_library(mempool_pool_steps STATIC EXCLUDE_FROM_ALL ${pool_sources})
target_compile_definitions(mempool_pool_steps PUBLIC LEASE_TEST)
target_link_libraries(mempool_pool_steps PUBLIC mempool_alloc mempool_proto mempool_flags Threads::Threads)
mempool_test(test_lease_model SOURCES test_lease_model.c LIBS mempool_pool_steps LABELS unit)
