# The engine's arithmetic, and a proof that the model test sees what it should: the same test with a bug planted.
mempool_test(test_ledger SOURCES test_ledger.c LIBS mempool_alloc LABELS unit)
target_link_options(test_ledger PRIVATE -Wl,--wrap=posix_fallocate)
mempool_test(test_extent SOURCES test_extent.c LIBS mempool_alloc mempool_fault LABELS unit)
mempool_test(test_extent_recover SOURCES test_extent_recover.c LIBS mempool_alloc LABELS unit)
mempool_test(test_extent_model SOURCES test_extent_model.c extent_reference.c LIBS mempool_alloc LABELS unit)

foreach(name bias class_bit heir_child merge_right not_best owner_bytes split_loses)
  mutated_program(mutant_${name} ${name} $<TARGET_OBJECTS:test_extent_model>)
  target_link_libraries(mutant_${name} PRIVATE mempool_alloc mempool_flags PkgConfig::CMOCKA)
  mutant_test(test_extent_mutant_${name} ${name} mutant_${name} 60 unit)
endforeach()
