# The engine's arithmetic, and a proof that the model test sees what it should: the same test with a bug planted.
mempool_test(test_ledger SOURCES test_ledger.c LIBS mempool_alloc LABELS unit)
target_link_options(test_ledger PRIVATE -Wl,--wrap=posix_fallocate)
mempool_test(test_extent SOURCES test_extent.c LIBS mempool_alloc mempool_fault LABELS unit)
mempool_test(test_extent_recover SOURCES test_extent_recover.c LIBS mempool_alloc LABELS unit)
mempool_test(test_extent_model SOURCES test_extent_model.c extent_reference.c LIBS mempool_alloc LABELS unit)

# extent_mutant(NAME): see mutants/mutate. The mutated file's functions replace the library's, which is searched last.
function(extent_mutant name)
  set(mutant ${CMAKE_CURRENT_SOURCE_DIR}/mutants/${name})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${mutant})
  file(STRINGS ${mutant} lines LIMIT_COUNT 2)
  list(GET lines 1 path)
  set(mutated ${CMAKE_CURRENT_BINARY_DIR}/mutants/${name}.c)
  add_custom_command(OUTPUT ${mutated}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_CURRENT_BINARY_DIR}/mutants
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/mutants/mutate ${mutant} ${PROJECT_SOURCE_DIR} > ${mutated}
    DEPENDS ${mutant} ${CMAKE_CURRENT_SOURCE_DIR}/mutants/mutate ${PROJECT_SOURCE_DIR}/${path})
  add_executable(mutant_${name} $<TARGET_OBJECTS:test_extent_model> ${mutated})
  target_link_libraries(mutant_${name} PRIVATE mempool_alloc mempool_flags PkgConfig::CMOCKA)
  add_test(NAME test_extent_mutant_${name}
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/mutants/expect_found ${mutant} $<TARGET_FILE:mutant_${name}> 60)
  set_tests_properties(test_extent_mutant_${name} PROPERTIES TIMEOUT 90 LABELS unit)
endfunction()

foreach(mutant bias class_bit heir_child merge_right not_best owner_bytes split_loses)
  extent_mutant(${mutant})
endforeach()
