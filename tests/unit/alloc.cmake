mempool_test(test_ledger SOURCES test_ledger.c LIBS mempool_alloc LABELS unit)
mempool_test(test_extent SOURCES test_extent.c LIBS mempool_alloc LABELS unit)
mempool_test(test_extent_model SOURCES test_extent_model.c LIBS mempool_alloc LABELS unit)

# The model test has to find bugs: each mutant is the extent map with one line changed, and the test passes if the model test
# reports it. A line that is not found exactly once stops the configuration: a mutant that is none proves nothing.
set(extent_sources extent.c extent_check.c extent_gap.c extent_hash.c)
function(mempool_mutant name file line replacement)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/mutants/${name})
  file(READ ${PROJECT_SOURCE_DIR}/daemon/alloc/${file} text)
  string(LENGTH "${text}" before)
  string(REPLACE "${line}" "" without "${text}")
  string(LENGTH "${without}" after)
  string(LENGTH "${line}" length)
  math(EXPR found "(${before} - ${after}) / ${length}")
  if(NOT found EQUAL 1)
    message(FATAL_ERROR "mutant ${name}: its line stands ${found} times in ${file}: ${line}")
  endif()
  string(REPLACE "${line}" "${replacement}" text "${text}")
  file(CONFIGURE OUTPUT ${folder}/${file} CONTENT "${text}" @ONLY)
  set(sources ${extent_sources})
  list(REMOVE_ITEM sources ${file})
  list(TRANSFORM sources PREPEND ${PROJECT_SOURCE_DIR}/daemon/alloc/)
  add_executable(mutant_${name} test_extent_model.c ${folder}/${file} ${sources} ${PROJECT_SOURCE_DIR}/daemon/alloc/ledger.c)
  target_compile_options(mutant_${name} PRIVATE -UNDEBUG)
  target_link_libraries(mutant_${name} PRIVATE mempool_flags PkgConfig::CMOCKA)
  # With 42 the program says that it found a fault by its own checks; a crash or a timeout is no find.
  add_test(NAME mutant_${name} COMMAND sh -c "'$<TARGET_FILE:mutant_${name}>' --expect-fault; test $? = 42")
  set_tests_properties(mutant_${name} PROPERTIES TIMEOUT 60 LABELS unit)
endfunction()

mempool_mutant(forgets_to_merge_right extent.c
  "	if (extent_is_gap(map, links->next))
		swallow(map, extent, links->next, now_s);"
  "")
mempool_mutant(split_loses_the_last extent_hash.c
  "	while (extent != EXTENT_NONE) {
		struct extent_links *links"
  "	while (extent != EXTENT_NONE && extent_links(map, extent)->hash_next != EXTENT_NONE) {
		struct extent_links *links")
mempool_mutant(heir_forgets_a_child extent_gap.c
  "	for (int i = 0; i < 2; i++) {"
  "	for (int i = 0; i < 1; i++) {")
