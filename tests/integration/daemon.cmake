mempool_test(test_mempoold SOURCES test_mempoold.c LIBS mempool_test_lib LABELS integration)
