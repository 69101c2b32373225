/* Four threads that share handles, a forked child, and a host that flushes denormals to zero. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __SSE2__
#include <immintrin.h>
#endif

enum { OUTPUTS = 150, INPUTS = 300, BATCH = 70, THREADS = 4, ROUNDS = 5 };

struct work {
  const slth_engine *engine;
  slth_weights *weights;
  slth_matrix_mut x, expected;
  /* NULL: each thread uses its own workspace. */
  slth_workspace *shared_workspace;
  /* The handle that may be busy; NULL: none. */
  const char *busy;
  size_t done;
};

static bool is_expected(const struct work *work, slth_matrix_mut y) {
  return memcmp(work->expected.data, y.data, sizeof(float) * BATCH * OUTPUTS) == 0;
}

static void *multiply(void *argument) {
  struct work *work = argument;
  slth_matrix_mut y = matrix(BATCH, OUTPUTS, ROWS);
  slth_workspace *own = slth_workspace_new();
  for (int round = 0; round < ROUNDS; round++) {
    slth_workspace *workspace = work->shared_workspace ? work->shared_workspace : own;
    slth_status status = slth_matmul_forward(work->engine, work->weights, readable(work->x), NULL, y, workspace);
    if (status == SLTH_OK) {
      CHECK(is_expected(work, y));
      work->done++;
    } else {
      RETURNS(SLTH_BUSY, status);
      const char *message = slth_last_error(), *who = "another thread is using ";
      CHECK(work->busy && strncmp(message, who, strlen(who)) == 0 &&
            strncmp(message + strlen(who), work->busy, strlen(work->busy)) == 0 && strstr(message, "its own") != NULL);
    }
  }
  slth_workspace_free(own);
  dispose(y);
  return NULL;
}

/* Runs the threads. If mask is not NULL, rebuilds the weights with this mask meanwhile. Returns the number of products. */
static size_t run_threads(struct work work, const uint64_t *mask) {
  pthread_t threads[THREADS];
  struct work works[THREADS];
  size_t done = 0;
  for (int i = 0; i < THREADS; i++) {
    works[i] = work;
    CHECK(pthread_create(&threads[i], NULL, multiply, &works[i]) == 0);
  }
  for (int i = 0; mask != NULL && i < 20; i++) {
    slth_status status = slth_weights_rebuild(work.weights, work.engine, mask);
    CHECK(status == SLTH_OK || status == SLTH_BUSY);
  }
  for (int i = 0; i < THREADS; i++) {
    CHECK(pthread_join(threads[i], NULL) == 0);
    done += works[i].done;
  }
  return done;
}

static void check_child(struct work work) {
  fflush(stderr);
  pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    alarm(60);
    multiply(&work);
    /* End with another program: valgrind would report memory of the parent's threads, which the child lacks, as leaked. */
    if (work.done == ROUNDS) execl("/bin/true", "true", (char *)NULL);
    _exit(1);
  }
  int status;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* If the host has set flush-to-zero and denormals-are-zero, products have the same bits, and the setting is kept. */
static void check_denormals(struct work work) {
#ifdef __SSE2__
  for (size_t i = 0; i < BATCH * INPUTS; i++) work.x.data[i] = (float)i * 1e-44f;
  slth_matrix_mut y = matrix(BATCH, OUTPUTS, ROWS);
  slth_workspace *workspace = slth_workspace_new();
  OK(slth_matmul_forward(work.engine, work.weights, readable(work.x), NULL, work.expected, workspace));
  unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040);
  /* Read back, because valgrind has no such modes and ignores the bits. */
  unsigned set = _mm_getcsr();
  slth_status status = slth_matmul_forward(work.engine, work.weights, readable(work.x), NULL, y, workspace);
  unsigned after = _mm_getcsr();
  _mm_setcsr(before);
  OK(status);
  CHECK(after == set && is_expected(&work, y));
  size_t denormal = 0;
  for (size_t i = 0; i < BATCH * OUTPUTS; i++) denormal += fpclassify(y.data[i]) == FP_SUBNORMAL;
  CHECK(denormal > BATCH * OUTPUTS / 2);
  slth_workspace_free(workspace);
  dispose(y);
#else
  (void)work;
#endif
}

void test_threads(const slth_engine *engine) {
  struct work work = {.engine = engine, .x = noisy(BATCH, INPUTS, ROWS), .expected = matrix(BATCH, OUTPUTS, ROWS)};
  slth_matrix_mut w = noisy(OUTPUTS, INPUTS, ROWS);
  uint64_t *mask = some_mask(OUTPUTS * INPUTS, 0.3);
  OK(slth_weights_prepare(engine, readable(w), mask, NULL, &work.weights));
  slth_engine *scalar;
  OK(slth_engine_new("scalar", 1, &scalar));
  slth_workspace *workspace = slth_workspace_new();
  OK(slth_matmul_forward(scalar, work.weights, readable(work.x), NULL, work.expected, workspace));

  CHECK(run_threads(work, NULL) == THREADS * ROUNDS);
  check_child(work);
  CHECK(run_threads(work, NULL) == THREADS * ROUNDS);
  work.busy = "weights";
  run_threads(work, mask);
  work.shared_workspace = workspace, work.busy = "workspace";
  CHECK(run_threads(work, NULL) >= 1);
  work.shared_workspace = NULL, work.busy = NULL;
  check_denormals(work);

  slth_workspace_free(workspace), slth_engine_free(scalar), slth_weights_free(work.weights);
  dispose(work.x), dispose(work.expected), dispose(w), free(mask);
}
