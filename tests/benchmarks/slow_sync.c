/* Makes every sync take at least SLOW_SYNC_US microseconds, as on a slower disk: to be preloaded.

   The real sync is done first, so nothing becomes less durable. msync counts where it waits; sync_file_range
   does not, for those who use it only ask for writing to begin. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static struct timespec end_of(struct timespec began) {
    const char *text = getenv("SLOW_SYNC_US");
    long microseconds = text ? atol(text) : 0;
    began.tv_sec += microseconds / 1000000;
    began.tv_nsec += microseconds % 1000000 * 1000;
    if (began.tv_nsec >= 1000000000) {
        began.tv_sec += 1;
        began.tv_nsec -= 1000000000;
    }
    return began;
}

static void wait_until(struct timespec end) {
    int error = errno;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR) {
    }
    errno = error;
}

#define SLOW(result, call)                                                                                   \
    struct timespec began;                                                                                   \
    clock_gettime(CLOCK_MONOTONIC, &began);                                                                  \
    int result = call;                                                                                       \
    wait_until(end_of(began));                                                                               \
    return result

int fsync(int descriptor) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    SLOW(result, real(descriptor));
}

int fdatasync(int descriptor) {
    static int (*real)(int);
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    SLOW(result, real(descriptor));
}

int msync(void *address, size_t length, int flags) {
    static int (*real)(void *, size_t, int);
    if (!real) real = (int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "msync");
    if (!(flags & MS_SYNC)) return real(address, length, flags);
    SLOW(result, real(address, length, flags));
}
