mempool_test(test_hostile SOURCES test_hostile.c hostile.c LIBS mempool_test_lib mempool_proto LABELS integration)
