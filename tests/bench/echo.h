#pragma once
// SPDX-License-Identifier: MIT
/* echo - what a request costs without an allocator: libuv and protobuf-c, the same messages, replies of one read in one write */

/** echo_serve() - serve one connection on a Unix socket at @path until it ends; does not return */
_Noreturn void echo_serve(const char *path);
