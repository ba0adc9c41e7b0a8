mempool_test(test_frame SOURCES test_frame.c LIBS mempool_proto LABELS unit)
mempool_test(test_name SOURCES test_name.c LIBS mempool_proto LABELS unit)
mempool_test(test_lease_layout SOURCES test_lease_layout.c LIBS mempool_proto LABELS unit)
