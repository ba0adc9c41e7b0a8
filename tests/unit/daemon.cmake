foreach(noun config instance limits log options value)
  mempool_test(test_${noun} SOURCES test_${noun}.c LIBS mempool_daemon LABELS unit)
endforeach()
