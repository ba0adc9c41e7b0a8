# The library, through its public API alone, against a real daemon and with real processes.
add_library(mempool_client_test OBJECT client_world.c)
target_link_libraries(mempool_client_test PUBLIC mempool-client mempool_test_lib mempool_flags PkgConfig::CMOCKA)
foreach(name client_blocks client_pools client_holds client_guard client_slots client_pressure client_crowd client_death client_full client_restart client_show)
  mempool_test(test_${name} SOURCES test_${name}.c LIBS mempool_client_test
    mempool-client mempool_test_lib LABELS integration)
endforeach()
target_compile_definitions(test_client_restart PRIVATE LOSSY_PATH="$<TARGET_FILE:mempoold_lossy>")
add_dependencies(test_client_restart mempoold_lossy)

# The original allocator's usage, unchanged.
add_executable(original_example original_example.c)
target_include_directories(original_example PRIVATE ${PROJECT_SOURCE_DIR}/include/mempool)
target_link_libraries(original_example PRIVATE mempool-client mempool_flags)
mempool_test(test_original SOURCES test_original.c LIBS mempool_test_lib LABELS integration)
target_compile_definitions(test_original PRIVATE EXAMPLE="$<TARGET_FILE:original_example>")
add_dependencies(test_original original_example)

# Loaded late, by a program that is not linked with it.
mempool_test(test_dlopen SOURCES test_dlopen.c LIBS mempool_test_lib Threads::Threads ${CMAKE_DL_LIBS} LABELS integration)
target_compile_definitions(test_dlopen PRIVATE LIBRARY_PATH="$<TARGET_FILE:mempool-client>")
add_dependencies(test_dlopen mempool-client)

# Its children exit without letting go of anything, which is what is tested: no leak is looked for.
mempool_test(test_client_threads SOURCES test_client_threads.c LIBS mempool_client_test mempool-client mempool_test_lib
  LABELS integration TIMEOUT 600 ENV ASAN_OPTIONS=detect_leaks=0)
