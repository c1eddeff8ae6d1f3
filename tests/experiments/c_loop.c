/* Loops over NCCL's functions in C, as nccl-tests has them. Each returns the nanoseconds of all its calls, or -1. */
#include <stddef.h>
#include <time.h>

typedef int (*AllReduce)(const void *, void *, size_t, int, int, void *, void *);
typedef int (*Group)(void);
typedef int (*Send)(const void *, size_t, int, int, void *, void *);
typedef int (*Recv)(void *, size_t, int, int, void *, void *);

static long long now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

long long time_all_reduce(AllReduce all_reduce, const void *send, void *recv, size_t count, int dtype, int op,
                          void *comm, void *stream, int calls) {
  long long begin = now();
  for (int i = 0; i < calls; i++)
    if (all_reduce(send, recv, count, dtype, op, comm, stream)) return -1;
  return now() - begin;
}

long long time_send_recv(Group start, Send send, Recv recv, Group end, const void *from, void *to, size_t count,
                         int dtype, int dst, int src, void *comm, void *stream, int calls) {
  long long begin = now();
  for (int i = 0; i < calls; i++)
    if (start() || send(from, count, dtype, dst, comm, stream) || recv(to, count, dtype, src, comm, stream) || end())
      return -1;
  return now() - begin;
}
