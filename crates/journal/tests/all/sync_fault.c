/* Loaded before the C library: fails the calls that the trigger file names, as a broken disk would. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(const char *call, int fd) {
    const char *trigger = getenv("LOCKSTEP_TEST_FAULT");
    char wanted[32] = {0}, link[64], path[4096] = {0};
    struct stat file;
    int in;
    if (!trigger || (in = open(trigger, O_RDONLY)) < 0) return 0;
    ssize_t length = read(in, wanted, sizeof wanted - 1);
    close(in);
    /* After a blank stands how the names end of the files whose calls are meant. */
    char *end = strchr(wanted, ' ');
    if (end) {
        *end++ = 0;
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if (readlink(link, path, sizeof path - 1) < 0 || strlen(path) < strlen(end)) return 0;
        if (strcmp(path + strlen(path) - strlen(end), end)) return 0;
    }
    /* Only files: a test's own output must go through. */
    return length > 0 && !strcmp(wanted, call) && !fstat(fd, &file) && S_ISREG(file.st_mode);
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))

int fsync(int fd) {
    if (fails("sync", fd)) return errno = EIO, -1;
    return REAL(int, "fsync", int)(fd);
}

int fdatasync(int fd) {
    if (fails("sync", fd)) return errno = EIO, -1;
    return REAL(int, "fdatasync", int)(fd);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) {
    if (fails("write", fd)) return errno = EIO, -1;
    return REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t)(fd, data, length, at);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    if (fails("write", fd)) return errno = EIO, -1;
    return REAL(ssize_t, "pwrite", int, const void *, size_t, off_t)(fd, data, length, at);
}

ssize_t write(int fd, const void *data, size_t length) {
    if (fails("write", fd)) return errno = EIO, -1;
    return REAL(ssize_t, "write", int, const void *, size_t)(fd, data, length);
}
