/* Loaded before the C library: tells in a file, in their order, what is done to the segment's file, to its log, and to
   the file in which the test acknowledges. A call and its line are one step, whatever other threads do. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

static int ends_with(const char *text, const char *end) {
    size_t length = strlen(text), of_end = strlen(end);
    return length >= of_end && !strcmp(text + length - of_end, end);
}

/* 's'egment, 'l'og, 'a'cknowledged; 0 for all others. */
static char role(int fd) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (ends_with(path, ".journal")) return 's';
    if (ends_with(path, ".journal-wal")) return 'l';
    return ends_with(path, "/acknowledged") ? 'a' : 0;
}

static void put(int out, const void *data, size_t length) {
    const char *from = data;
    while (length > 0) {
        ssize_t done = REAL(ssize_t, "write", int, const void *, size_t)(out, from, length);
        if (done <= 0) abort();
        from += done, length -= done;
    }
}

/* What: 'w'rite, 's'ync, 't'runcate. */
static void tell(char what, int fd, uint64_t at, const void *data, uint64_t length) {
    static int out = -1;
    char file = role(fd);
    const char *trace = getenv("LOCKSTEP_TEST_TRACE");
    if (!file || !trace) return;
    if (out < 0 && (out = open(trace, O_WRONLY | O_CREAT | O_APPEND, 0600)) < 0) abort();
    put(out, &what, 1);
    put(out, &file, 1);
    put(out, &at, sizeof at);
    put(out, &length, sizeof length);
    put(out, data, length);
}

#define STEP(type, call, telling) \
    pthread_mutex_lock(&lock); \
    type done = call; \
    if (done >= 0) telling; \
    pthread_mutex_unlock(&lock); \
    return done

int fsync(int fd) { STEP(int, REAL(int, "fsync", int)(fd), tell('s', fd, 0, "", 0)); }

int fdatasync(int fd) { STEP(int, REAL(int, "fdatasync", int)(fd), tell('s', fd, 0, "", 0)); }

int ftruncate(int fd, off_t length) {
    STEP(int, REAL(int, "ftruncate", int, off_t)(fd, length), tell('t', fd, length, "", 0));
}

int ftruncate64(int fd, off64_t length) {
    STEP(int, REAL(int, "ftruncate64", int, off64_t)(fd, length), tell('t', fd, length, "", 0));
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    STEP(ssize_t, REAL(ssize_t, "pwrite", int, const void *, size_t, off_t)(fd, data, length, at),
         tell('w', fd, at, data, done));
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) {
    STEP(ssize_t, REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t)(fd, data, length, at),
         tell('w', fd, at, data, done));
}

ssize_t write(int fd, const void *data, size_t length) {
    STEP(ssize_t, REAL(ssize_t, "write", int, const void *, size_t)(fd, data, length), tell('w', fd, 0, data, done));
}
