/* A fake libnccl without GPUs: it records every call, fails on request, and with one rank moves the bytes.
 *
 * Signatures are nccl.h's. With -DOLD it is NCCL 2.12.12, which lacks ncclGetLastError and all newer functions. With
 * -DQUIET it records nothing, so that a call takes no time.
 * With -DLOG it writes a log as NCCL does (src/debug.cc), in which it uses registered buffers as the tests say.
 * A record is one line, "function depth=D name=value ...", with the group depth at the call's entry.
 */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef OLD
#define VERSION 21212
#else
#define VERSION 22809
#endif

#define MAX_CALLS 16384
#define LINE_BYTES 512
#define MAX_COMMS 4096

typedef struct { unsigned char internal[128]; } ncclUniqueId;
typedef struct comm { int nranks, rank; } *ncclComm_t; /* a slot with 0 ranks is free */

static char calls[MAX_CALLS][LINE_BYTES];
static int call_count;
static struct comm comms[MAX_COMMS];
static __thread int group_depth; /* as in NCCL, a group belongs to a thread */
static char failing_function[64];
static int failing_code;
static int null_handles;
static char last_error[256];
/* The first half of a rank's message to itself, which waits for the second. */
static const void *sent;
static void *received;

/* ---- read and set by tests ---- */

int fake_log_count(void) { return call_count; }
const char *fake_log_entry(int i) { return calls[i]; }
int fake_group_depth(void) { return group_depth; }
void fake_set_null_handles(int on) { null_handles = on; }
void fake_set_last_error(const char *text) { snprintf(last_error, sizeof last_error, "%s", text); }
void fake_fail_next(const char *function, int code) {
  snprintf(failing_function, sizeof failing_function, "%s", function);
  failing_code = code;
}
void fake_reset(void) {
  call_count = group_depth = failing_code = null_handles = 0;
  failing_function[0] = last_error[0] = 0;
  sent = received = NULL;
}

/* ---- recording ---- */

#define P(pointer) ((long long)(intptr_t)(pointer))

#ifdef LOG
static int log_is_open; /* 0 after a reset: the next message reads the variables */
static FILE *log_file;
static const char *log_about_buffers = "";

void fake_log_about_buffers(const char *text) { log_about_buffers = strdup(text); }
void ncclResetDebugInit(void) { log_is_open = 0; }

static void info(const char *text) {
  if (!log_is_open) {
    const char *level = getenv("NCCL_DEBUG"), *path = getenv("NCCL_DEBUG_FILE");
    if (log_file) fclose(log_file);
    log_file = level && !strcmp(level, "INFO") && path ? fopen(path, "w") : NULL;
    if (log_file) setlinebuf(log_file);
    log_is_open = 1;
  }
  if (log_file) fprintf(log_file, "vm:2072:2081 [0] NCCL INFO %s\n", text);
}
#endif

/* Writes the line and returns the call's result: 0, or the code of fake_fail_next. */
__attribute__((format(printf, 2, 3))) static int record(const char *function, const char *format, ...) {
#ifdef QUIET
  (void)format;
  return strcmp(failing_function, function) ? 0 : failing_code;
#endif
  int i = __atomic_fetch_add(&call_count, 1, __ATOMIC_SEQ_CST);
  if (i >= MAX_CALLS) abort();
  int length = snprintf(calls[i], LINE_BYTES, "%s depth=%d ", function, group_depth);
  va_list args;
  va_start(args, format);
  vsnprintf(calls[i] + length, LINE_BYTES - length, format, args);
  va_end(args);
#ifdef LOG
  if (strstr(calls[i], " recv=") || strstr(calls[i], " send=")) {
    info("AllReduce: opCount 0 sendbuff 0x1 recvbuff 0x2 count 4 datatype 7 op 0 root 0 comm 0x3 [nranks=1] stream 0x4");
    if (*log_about_buffers) info(log_about_buffers);
  }
#endif
  if (strcmp(failing_function, function)) return 0;
  failing_function[0] = 0;
  return failing_code;
}

static int copy_if_alone(const void *from, void *to, size_t count, int dtype, ncclComm_t comm) {
  static const size_t itemsizes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
  if (dtype < 0 || dtype > 11) return 4; /* ncclInvalidArgument */
  if (comm->nranks == 1 && from && to) memmove(to, from, count * itemsizes[dtype]);
  return 0;
}

/* Hands out the lowest free slot, so the handle of a destroyed communicator comes back at once. */
static int new_comm(ncclComm_t *comm, int nranks) {
  int i = 0;
  while (comms[i].nranks) if (++i == MAX_COMMS) abort();
  comms[i].nranks = nranks;
  *comm = &comms[i];
  return 0;
}

/* ---- NCCL ---- */

int ncclGetVersion(int *version) {
  *version = VERSION;
  return 0;
}

const char *ncclGetErrorString(int result) {
  static const char *texts[] = {"no error", "unhandled cuda error", "unhandled system error", "internal error",
                                "invalid argument", "invalid usage", "remote process exited", "in progress"};
  return result >= 0 && result < 8 ? texts[result] : "unknown result code";
}

int ncclGetUniqueId(ncclUniqueId *id) {
  /* One zero in the middle: a binding that stops at a NUL byte loses the tail. */
  for (int i = 0; i < 128; i++) id->internal[i] = i == 64 ? 0 : i + 1;
  return record("ncclGetUniqueId", "%s", "");
}

int ncclCommInitRank(ncclComm_t *comm, int nranks, ncclUniqueId id, int rank) {
  char hex[257];
  for (int i = 0; i < 128; i++) snprintf(hex + 2 * i, 3, "%02x", id.internal[i]);
  int failure = record("ncclCommInitRank", "nranks=%d rank=%d id=%s", nranks, rank, hex);
  if (!failure) failure = new_comm(comm, nranks);
  if (!failure) (*comm)->rank = rank;
  return failure;
}

int ncclCommCount(ncclComm_t comm, int *count) {
  *count = comm->nranks;
  return 0;
}

int ncclCommUserRank(ncclComm_t comm, int *rank) {
  *rank = comm->rank;
  return 0;
}

/* nccl4py's Communicator.init calls this function, which is new in NCCL 2.23. */
int ncclCommInitRankScalable(ncclComm_t *comm, int nranks, int rank, int count, ncclUniqueId *ids, void *config) {
  return count == 1 && !config ? ncclCommInitRank(comm, nranks, *ids, rank) : 5;
}

static int end_comm(const char *function, ncclComm_t comm) {
  int failure = record(function, "comm=%lld", P(comm));
  if (failure) return failure;
  if (comm->nranks == 0) return 4; /* ncclInvalidArgument: it was destroyed before */
  comm->nranks = 0;
  return 0;
}
int ncclCommDestroy(ncclComm_t comm) { return end_comm("ncclCommDestroy", comm); }
int ncclCommAbort(ncclComm_t comm) { return end_comm("ncclCommAbort", comm); }

int ncclAllReduce(const void *send, void *recv, size_t count, int dtype, int op, ncclComm_t comm, void *stream) {
  int failure = record("ncclAllReduce", "send=%lld recv=%lld count=%zu dtype=%d op=%d comm=%lld stream=%lld", P(send),
                       P(recv), count, dtype, op, P(comm), P(stream));
  return failure ? failure : copy_if_alone(send, recv, count, dtype, comm);
}

int ncclAllGather(const void *send, void *recv, size_t count, int dtype, ncclComm_t comm, void *stream) {
  int failure = record("ncclAllGather", "send=%lld recv=%lld count=%zu dtype=%d comm=%lld stream=%lld", P(send),
                       P(recv), count, dtype, P(comm), P(stream));
  return failure ? failure : copy_if_alone(send, recv, count, dtype, comm);
}

int ncclReduceScatter(const void *send, void *recv, size_t count, int dtype, int op, ncclComm_t comm, void *stream) {
  int failure = record("ncclReduceScatter", "send=%lld recv=%lld count=%zu dtype=%d op=%d comm=%lld stream=%lld",
                       P(send), P(recv), count, dtype, op, P(comm), P(stream));
  return failure ? failure : copy_if_alone(send, recv, count, dtype, comm);
}

int ncclBroadcast(const void *send, void *recv, size_t count, int dtype, int root, ncclComm_t comm, void *stream) {
  int failure = record("ncclBroadcast", "send=%lld recv=%lld count=%zu dtype=%d root=%d comm=%lld stream=%lld",
                       P(send), P(recv), count, dtype, root, P(comm), P(stream));
  return failure ? failure : copy_if_alone(send, recv, count, dtype, comm);
}

int ncclReduce(const void *send, void *recv, size_t count, int dtype, int op, int root, ncclComm_t comm,
               void *stream) {
  int failure = record("ncclReduce", "send=%lld recv=%lld count=%zu dtype=%d op=%d root=%d comm=%lld stream=%lld",
                       P(send), P(recv), count, dtype, op, root, P(comm), P(stream));
  return failure ? failure : copy_if_alone(send, recv, count, dtype, comm);
}

/* The second half of a message to itself copies. At the first half copy_if_alone gets a NULL and does nothing. */
static int half_message(size_t count, int dtype, ncclComm_t comm) {
  int failure = copy_if_alone(sent, received, count, dtype, comm);
  if (sent && received) sent = received = NULL;
  return failure;
}

int ncclSend(const void *send, size_t count, int dtype, int peer, ncclComm_t comm, void *stream) {
  int failure = record("ncclSend", "send=%lld count=%zu dtype=%d peer=%d comm=%lld stream=%lld", P(send), count,
                       dtype, peer, P(comm), P(stream));
  if (failure) return failure;
  sent = send;
  return half_message(count, dtype, comm);
}

int ncclRecv(void *recv, size_t count, int dtype, int peer, ncclComm_t comm, void *stream) {
  int failure = record("ncclRecv", "recv=%lld count=%zu dtype=%d peer=%d comm=%lld stream=%lld", P(recv), count,
                       dtype, peer, P(comm), P(stream));
  if (failure) return failure;
  received = recv;
  return half_message(count, dtype, comm);
}

int ncclGroupStart(void) {
  int failure = record("ncclGroupStart", "%s", "");
  if (!failure) group_depth++;
  return failure;
}

int ncclGroupEnd(void) {
  int failure = record("ncclGroupEnd", "%s", "");
  if (group_depth == 0) return 5; /* ncclInvalidUsage */
  group_depth--; /* the group ends even when one of its calls fails */
  return failure;
}

#ifndef OLD
const char *ncclGetLastError(ncclComm_t comm) {
  (void)comm; /* as in NCCL, which keeps one text per process */
  return last_error;
}

int ncclMemAlloc(void **pointer, size_t size) {
  int failure = record("ncclMemAlloc", "size=%zu", size);
  if (!failure) *pointer = malloc(size);
  return failure;
}

int ncclMemFree(void *pointer) {
  int failure = record("ncclMemFree", "pointer=%lld", P(pointer));
  if (!failure) free(pointer);
  return failure;
}

int ncclCommRegister(const ncclComm_t comm, void *pointer, size_t size, void **handle) {
  *handle = null_handles ? NULL : (char *)pointer + 2;
  return record("ncclCommRegister", "comm=%lld pointer=%lld size=%zu", P(comm), P(pointer), size);
}

int ncclCommDeregister(const ncclComm_t comm, void *handle) {
  return record("ncclCommDeregister", "comm=%lld handle=%lld", P(comm), P(handle));
}

int ncclCommWindowRegister(ncclComm_t comm, void *pointer, size_t size, void **window, int flags) {
  *window = null_handles ? NULL : (char *)pointer + 1;
  return record("ncclCommWindowRegister", "comm=%lld pointer=%lld size=%zu flags=%d", P(comm), P(pointer), size,
                flags);
}

int ncclCommWindowDeregister(ncclComm_t comm, void *window) {
  return record("ncclCommWindowDeregister", "comm=%lld window=%lld", P(comm), P(window));
}

int ncclAlltoAll(const void *send, void *recv, size_t count, int dtype, ncclComm_t comm, void *stream) {
  int failure = record("ncclAlltoAll", "send=%lld recv=%lld count=%zu dtype=%d comm=%lld stream=%lld", P(send),
                       P(recv), count, dtype, P(comm), P(stream));
  return failure ? failure : copy_if_alone(send, recv, count, dtype, comm);
}
#endif
