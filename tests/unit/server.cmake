# The parts that stand alone, then those that need pools.
foreach(noun arena output status)
  mempool_test(test_${noun} SOURCES test_${noun}.c LIBS mempool_server LABELS unit)
endforeach()
mempool_test(test_mailbox SOURCES test_mailbox.c LIBS mempool_server LABELS unit concurrent)
