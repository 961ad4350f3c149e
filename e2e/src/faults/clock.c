/* A wall clock that jumps, for one process: what libc says of the time, moved by the seconds in a file.
 *
 * Preloaded by `faults/clocks.rs`, which writes the file. Monotonic clocks are left alone, as a jump leaves them.
 * In C because whatever stands in for a function of libc must be there before anything else is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *seconds;
static int (*wait_until)(cnd_t *, mtx_t *, const struct timespec *);

static int64_t moved(void) { return seconds ? *seconds : 0; }

__attribute__((constructor)) static void find(void) {
    *(void **)&wait_until = dlsym(RTLD_NEXT, "cnd_timedwait");
    const char *path = getenv("FAULTS_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof *seconds, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) seconds = page;
    close(file);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += moved();
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int failed = (int)syscall(SYS_gettimeofday, now, zone);
    if (!failed) now->tv_sec += moved();
    return failed;
}

/* The kernel, which ends the wait, knows nothing of the jump. */
int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    struct timespec real = *until;
    real.tv_sec -= moved();
    return wait_until(condition, mutex, &real);
}
