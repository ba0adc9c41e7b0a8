mempool_test(test_units SOURCES test_units.c LIBS mempool_ctl LABELS unit)
mempool_test(test_suggest SOURCES test_suggest.c LIBS mempool_ctl LABELS unit)
mempool_test(test_demo_work SOURCES test_demo_work.c LIBS mempool_ctl LABELS unit)
mempool_test(test_viz_map SOURCES test_viz_map.c LIBS mempool_ctl LABELS unit)
