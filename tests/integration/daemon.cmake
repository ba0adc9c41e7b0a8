mempool_test(test_mempoold SOURCES test_mempoold.c LIBS mempool_test_lib LABELS integration)
mempool_test(test_resume SOURCES test_resume.c LIBS mempool_test_lib mempool_proto LABELS integration)
target_compile_definitions(test_resume PRIVATE LOSSY_PATH="$<TARGET_FILE:mempoold_lossy>")
add_dependencies(test_resume mempoold_lossy)
