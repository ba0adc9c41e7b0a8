foreach(name pool recover)
  add_executable(bench_${name} ${name}.c)
  target_link_libraries(bench_${name} PRIVATE mempool_pool mempool_proto mempool_flags)
endforeach()

# What the intent costs: the engine twice in one program, the second time without it and with other names.
