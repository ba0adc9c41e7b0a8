mempool_test(test_extent_model SOURCES test_extent_model.c extent_reference.c LIBS mempool_alloc LABELS unit)
