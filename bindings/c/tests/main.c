/* Calls every function of slth.h. Results of computations must agree bit by bit with plain loops. */
#include "check.h"

static void test_engine(void) {
  slth_engine *engine = NULL;
  OK(slth_engine_new("scalar", 1, &engine));
  CHECK(strcmp(slth_engine_backend(engine), "scalar") == 0);
  CHECK(slth_engine_threads(engine) == 1);
  slth_engine_free(engine);
  CHECK(strstr(slth_backends(), "scalar") != NULL);

  OK(slth_engine_new(NULL, 0, &engine));
  CHECK(slth_engine_threads(engine) >= 1);
  OK(slth_engine_share_from(engine, 1000));
  slth_engine_free(engine);

  engine = (slth_engine *)&engine;
  RETURNS(SLTH_UNKNOWN_BACKEND, slth_engine_new("sse9", 1, &engine));
  CHECK(engine == NULL);
  CHECK(strstr(slth_last_error(), "`sse9`") != NULL);
  RETURNS(SLTH_NULL_POINTER, slth_engine_new("scalar", 1, NULL));
  RETURNS(SLTH_NULL_POINTER, slth_engine_share_from(NULL, 0));
  CHECK(slth_engine_backend(NULL) == NULL && slth_engine_threads(NULL) == 0);
  slth_engine_free(NULL);
}

/* Read-only views have the same fields as writable ones. */
static void test_views(void) {
  float data[1];
  slth_matrix_mut rows = slth_row_major_mut(data, 3, 5), columns = slth_col_major_mut(data, 3, 5);
  CHECK(rows.row_stride == 5 && rows.col_stride == 1 && columns.row_stride == 1 && columns.col_stride == 3);
  slth_matrix row_major = slth_row_major(data, 3, 5), col_major = slth_col_major(data, 3, 5);
  CHECK(memcmp(&rows, &row_major, sizeof rows) == 0 && memcmp(&columns, &col_major, sizeof columns) == 0);

  slth_images_mut first = slth_nchw_mut(data, 2, 3, 5, 7), last = slth_batch_innermost_mut(data, 2, 3, 5, 7);
  const size_t strides[2][4] = {{105, 35, 7, 1}, {1, 70, 14, 2}};
  CHECK(memcmp(first.strides, strides[0], sizeof strides[0]) == 0 && memcmp(last.strides, strides[1], sizeof strides[1]) == 0);
  slth_images nchw = slth_nchw(data, 2, 3, 5, 7), innermost = slth_batch_innermost(data, 2, 3, 5, 7);
  CHECK(memcmp(&first, &nchw, sizeof first) == 0 && memcmp(&last, &innermost, sizeof last) == 0);
}

int main(void) {
  CHECK(slth_abi_version() == SLTH_ABI_VERSION);
  test_status();
  test_engine();
  test_views();
  test_masks();

  slth_engine *engine;
  OK(slth_engine_new(NULL, 2, &engine));
  OK(slth_engine_share_from(engine, 5000));
  test_errors(engine);
  test_matmul(engine);
  test_weights(engine);
  test_conv2d(engine);
  test_top_k(engine);
  test_subset_sum(engine);
  test_threads(engine);
  printf("slth %s: all right on %s, %zu threads\n", slth_version(), slth_engine_backend(engine), slth_engine_threads(engine));
  slth_engine_free(engine);
  return 0;
}
