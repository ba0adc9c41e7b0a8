# The engine, killed at each instruction: see step.h. What is traced is what is shipped, so only optimised builds run it.
add_library(step OBJECT test_step.c step.c stepper.c kinds.c frozen.c picture.c)
add_library(step_instance OBJECT test_step_instance.c instance.c instance_kinds.c stepper.c frozen.c picture.c)
foreach(what step step_instance)
  target_compile_options(${what} PRIVATE -UNDEBUG)
  target_link_libraries(${what} PRIVATE mempool_pool mempool_flags PkgConfig::CMOCKA)
  add_executable(test_${what} $<TARGET_OBJECTS:${what}>)
  target_link_libraries(test_${what} PRIVATE mempool_pool mempool_flags PkgConfig::CMOCKA)
  target_link_options(test_${what} PRIVATE LINKER:-z,now) # or the first call of each function is stepped through the loader
endforeach()
if(MEMPOOL_SANITIZE OR NOT CMAKE_BUILD_TYPE STREQUAL Release)
  return()
endif()
foreach(what step step_instance)
  add_test(NAME test_${what} COMMAND test_${what})
  set_tests_properties(test_${what} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 900 LABELS crash)
endforeach()
add_test(NAME test_step_long COMMAND test_step --long "by chance")
set_tests_properties(test_step_long PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT 7200 LABELS long)

# A proof that they see what they should: the same with a bug planted, as in tests/unit/mutants. The mutated file's functions
# replace the library's, which is searched last.
# Each is asked of the kind that it breaks, by name: all of them would take minutes.
set(kind_commit_early "alloc")
set(kind_drop_note "free between blocks")
set(kind_punch_first "pages given back")
set(kind_result_outside "alloc")
set(kind_size_first "resize")
set(kind_store_first "release, not the last of the session")
set(kind_instance_answer_outside "create")
set(kind_instance_number_again "a session begins")
set(kind_instance_session_early "a session begins")
set(kind_instance_unlink_first "destroy")
set(tools ${PROJECT_SOURCE_DIR}/tests/unit/mutants)
foreach(name commit_early drop_note punch_first result_outside size_first store_first
             instance_answer_outside instance_number_again instance_session_early instance_unlink_first)
  set(what step)
  if(name MATCHES "^instance_")
    set(what step_instance)
  endif()
  set(mutant ${CMAKE_CURRENT_SOURCE_DIR}/mutants/${name})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${mutant})
  file(STRINGS ${mutant} lines LIMIT_COUNT 2)
  list(GET lines 1 path)
  set(mutated ${CMAKE_CURRENT_BINARY_DIR}/mutants/${name}.c)
  add_custom_command(OUTPUT ${mutated}
    COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_CURRENT_BINARY_DIR}/mutants
    COMMAND ${tools}/mutate ${mutant} ${PROJECT_SOURCE_DIR} > ${mutated}
    DEPENDS ${mutant} ${tools}/mutate ${PROJECT_SOURCE_DIR}/${path})
  add_executable(mutant_step_${name} $<TARGET_OBJECTS:${what}> ${mutated})
  target_compile_options(mutant_step_${name} PRIVATE -w) # a planted bug may look like one
  target_link_libraries(mutant_step_${name} PRIVATE mempool_pool mempool_flags PkgConfig::CMOCKA)
  add_test(NAME test_step_mutant_${name}
    COMMAND ${tools}/expect_found ${mutant} $<TARGET_FILE:mutant_step_${name}> 300)
  set_tests_properties(test_step_mutant_${name} PROPERTIES TIMEOUT 330 LABELS crash ENVIRONMENT "MEMPOOL_STEP_KIND=${kind_${name}}")
endforeach()
