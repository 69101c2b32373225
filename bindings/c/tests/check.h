/* Shared by the tests: checks, random numbers, matrices of several layouts. */
#ifndef CHECK_H
#define CHECK_H

#include <math.h>
#include <slth.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                  \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);             \
      abort();                                                                            \
    }                                                                                     \
  } while (0)

/* Checks that a call returns this status. */
#define RETURNS(expected, call)                                                           \
  do {                                                                                    \
    slth_status status_ = (call);                                                         \
    if (status_ != (expected)) {                                                          \
      fprintf(stderr, "%s:%d: %s: %u (%s), last error: %s\n", __FILE__, __LINE__, #call,  \
              (unsigned)status_, slth_status_message(status_), slth_last_error());        \
      abort();                                                                            \
    }                                                                                     \
  } while (0)

#define OK(call) RETURNS(SLTH_OK, call)

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* Uninitialised memory; valid for 0 bytes too. */
static inline void *memory(size_t bytes) {
  void *all = malloc(bytes + 1);
  CHECK(all != NULL);
  return all;
}

/* A random multiple of 2^-15 in [-1, 1). */
static inline float noise(void) {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return (float)(int16_t)(state >> 16) / 32768;
}

static inline bool kept(const uint64_t *mask, size_t i) { return mask == NULL || (mask[i / 64] >> (i % 64) & 1) != 0; }

/* A mask over len weights that keeps about this share; the caller frees it. */
static inline uint64_t *some_mask(size_t len, double share) {
  uint64_t *mask = calloc(slth_mask_words(len) + 1, sizeof *mask);
  CHECK(mask != NULL);
  for (size_t i = 0; i < len; i++)
    if ((noise() + 1) / 2 < share) mask[i / 64] |= UINT64_C(1) << (i % 64);
  return mask;
}

/* Layout of a matrix: by rows, by columns, or with gaps between all elements. */
enum layout { ROWS, COLUMNS, GAPS, LAYOUTS };

#define CANARY 12345.0f

/* An uninitialised matrix with canaries in its gaps; freed by dispose. */
static inline slth_matrix_mut matrix(size_t rows, size_t cols, enum layout layout) {
  slth_matrix_mut m = slth_row_major_mut(NULL, rows, cols);
  if (layout == COLUMNS) m = slth_col_major_mut(NULL, rows, cols);
  if (layout == GAPS) m.row_stride = 2 * cols + 3, m.col_stride = 2;
  m.data = memory(rows * (m.row_stride + cols) * sizeof(float));
  for (size_t r = 0; layout == GAPS && r < rows; r++)
    for (size_t i = 0; i < m.row_stride; i++)
      if (i % 2 == 1 || i >= 2 * cols) m.data[r * m.row_stride + i] = CANARY;
  return m;
}

static inline void dispose(slth_matrix_mut m) {
  for (size_t r = 0; m.row_stride == 2 * m.cols + 3 && r < m.rows; r++)
    for (size_t i = 0; i < m.row_stride; i++)
      CHECK((i % 2 == 0 && i < 2 * m.cols) || m.data[r * m.row_stride + i] == CANARY);
  free(m.data);
}

static inline float *at(slth_matrix_mut m, size_t r, size_t c) {
  return &m.data[r * m.row_stride + c * m.col_stride];
}

static inline slth_matrix_mut noisy(size_t rows, size_t cols, enum layout layout) {
  slth_matrix_mut m = matrix(rows, cols, layout);
  for (size_t r = 0; r < rows; r++)
    for (size_t c = 0; c < cols; c++) *at(m, r, c) = noise();
  return m;
}

/* A read-only view of the same matrix. */
static inline slth_matrix readable(slth_matrix_mut m) {
  return (slth_matrix){m.data, m.rows, m.cols, m.row_stride, m.col_stride};
}

/* The parts of the test. They share one engine, which has two threads if there are two cores. */
void test_status(void);
void test_errors(const slth_engine *engine);
void test_masks(void);
void test_matmul(const slth_engine *engine);
void test_weights(const slth_engine *engine);
void test_conv2d(const slth_engine *engine);
void test_top_k(const slth_engine *engine);
void test_subset_sum(const slth_engine *engine);
void test_threads(const slth_engine *engine);

#endif
