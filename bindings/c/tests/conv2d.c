#include "check.h"

/* Uninitialised images. */
static slth_images_mut images(const size_t sizes[4], bool innermost) {
  float *data = memory(sizes[0] * sizes[1] * sizes[2] * sizes[3] * sizeof *data);
  return innermost ? slth_batch_innermost_mut(data, sizes[0], sizes[1], sizes[2], sizes[3])
                   : slth_nchw_mut(data, sizes[0], sizes[1], sizes[2], sizes[3]);
}

static float *pixel(slth_images_mut m, size_t n, size_t c, size_t y, size_t x) {
  return &m.data[n * m.strides[0] + c * m.strides[1] + y * m.strides[2] + x * m.strides[3]];
}

/* Loops over all images, channels, rows and columns. */
#define FOR_EACH_PIXEL(m)                          \
  for (size_t n = 0; n < (m).sizes[0]; n++)        \
    for (size_t c = 0; c < (m).sizes[1]; c++)      \
      for (size_t y = 0; y < (m).sizes[2]; y++)    \
        for (size_t x = 0; x < (m).sizes[3]; x++)

static slth_images_mut noisy_images(const size_t sizes[4], bool innermost) {
  slth_images_mut m = images(sizes, innermost);
  FOR_EACH_PIXEL(m) *pixel(m, n, c, y, x) = noise();
  return m;
}

static slth_images readable_images(slth_images_mut m) {
  slth_images all = {.data = m.data};
  memcpy(all.sizes, m.sizes, sizeof all.sizes);
  memcpy(all.strides, m.strides, sizeof all.strides);
  return all;
}

/* The input row that kernel row i meets at output row y; false if it lies in the padding. */
static bool source(size_t y, size_t i, size_t stride, size_t padding, size_t size, size_t *at) {
  *at = y * stride + i - padding;
  return y * stride + i >= padding && *at < size;
}

static void check_conv2d(const slth_engine *engine, const slth_conv2d_shape *s, size_t batch, double share, bool innermost,
                         slth_workspace *workspace) {
  size_t kh = s->kernel_height, kw = s->kernel_width, columns = s->channels * kh * kw;
  slth_matrix_mut w = noisy(s->outputs, columns, GAPS), bias = noisy(1, s->outputs, ROWS);
  uint64_t *mask = some_mask(s->outputs * columns, share);
  size_t in[4] = {batch, s->channels, s->height, s->width};
  size_t out[4] = {batch, s->outputs, slth_conv2d_out_height(s), slth_conv2d_out_width(s)};
  slth_images_mut X = noisy_images(in, innermost), Y = images(out, innermost);
  slth_images_mut dY = noisy_images(out, !innermost), dX = images(in, innermost);

  slth_conv2d *conv2d;
  slth_prepare_options options = {.size = sizeof options, .max_batch = 3, .flags = SLTH_INPUT_GRADIENT};
  OK(slth_conv2d_prepare(engine, s, readable(w), mask, &options, &conv2d));
  size_t expected_kept;
  OK(slth_mask_kept(mask, s->outputs * columns, &expected_kept));
  CHECK(slth_conv2d_kept(conv2d) == expected_kept && slth_conv2d_bytes(conv2d) > 0);
  slth_conv2d_shape found = {.size = sizeof found};
  OK(slth_conv2d_get_shape(conv2d, &found));
  CHECK(memcmp(&found, s, sizeof found) == 0);

  slth_epilogue relu = {.size = sizeof relu, .bias = bias.data, .activation = SLTH_RELU};
  OK(slth_conv2d_forward(engine, conv2d, readable_images(X), &relu, Y, workspace));
  FOR_EACH_PIXEL(Y) {
    float sum = 0;
    size_t from_y, from_x;
    for (size_t i = 0; i < kh; i++)
      for (size_t k = 0; k < s->channels; k++)
        for (size_t j = 0; j < kw; j++)
          if (kept(mask, c * columns + (k * kh + i) * kw + j) && source(y, i, s->stride, s->padding, s->height, &from_y) &&
              source(x, j, s->stride, s->padding, s->width, &from_x))
            sum = fmaf(*at(w, c, (k * kh + i) * kw + j), *pixel(X, n, k, from_y, from_x), sum);
    sum += bias.data[c];
    CHECK(*pixel(Y, n, c, y, x) == (sum > 0 ? sum : 0));
  }

  slth_images relu_output = readable_images(X);
  OK(slth_conv2d_input_gradient(engine, conv2d, readable_images(dY), &relu_output, dX, workspace));
  FOR_EACH_PIXEL(dX) {
    float sum = 0;
    size_t to_y, to_x;
    for (size_t i = 0; i < kh; i++)
      for (size_t o = 0; o < s->outputs; o++)
        for (size_t j = 0; j < kw; j++) {
          if ((y + s->padding - i) % s->stride != 0 || (x + s->padding - j) % s->stride != 0) continue;
          to_y = (y + s->padding - i) / s->stride, to_x = (x + s->padding - j) / s->stride;
          if (y + s->padding >= i && x + s->padding >= j && to_y < out[2] && to_x < out[3] &&
              kept(mask, o * columns + (c * kh + i) * kw + j))
            sum = fmaf(*at(w, o, (c * kh + i) * kw + j), *pixel(dY, n, o, to_y, to_x), sum);
        }
    CHECK(*pixel(dX, n, c, y, x) == (*pixel(X, n, c, y, x) > 0 ? sum : 0));
  }

  slth_matrix_mut dw = matrix(s->outputs, columns, COLUMNS);
  OK(slth_conv2d_weight_gradient(engine, s, readable_images(dY), readable_images(X), dw, workspace));
  for (size_t o = 0; o < s->outputs; o++)
    for (size_t column = 0; column < columns; column++) {
      size_t k = column / (kh * kw), i = column / kw % kh, j = column % kw, from_y, from_x;
      float all = 0;
      for (size_t n = 0; n < batch; n++) {
        float sum = 0;
        for (size_t y = 0; y < out[2]; y++)
          for (size_t x = 0; x < out[3]; x++)
            if (source(y, i, s->stride, s->padding, s->height, &from_y) && source(x, j, s->stride, s->padding, s->width, &from_x))
              sum = fmaf(*pixel(dY, n, o, y, x), *pixel(X, n, k, from_y, from_x), sum);
        all += sum;
      }
      CHECK(*at(dw, o, column) == all);
    }

  /* After rebuild and set_filters, results are as if prepared with the new mask and filters. */
  uint64_t *other_mask = some_mask(s->outputs * columns, 0.3);
  slth_matrix_mut other = noisy(s->outputs, columns, ROWS);
  slth_images_mut Z = images(out, innermost);
  OK(slth_conv2d_rebuild(conv2d, engine, other_mask));
  OK(slth_conv2d_set_filters(conv2d, engine, readable(other)));
  OK(slth_conv2d_forward(engine, conv2d, readable_images(X), NULL, Y, workspace));
  slth_conv2d *anew;
  OK(slth_conv2d_prepare(engine, s, readable(other), other_mask, NULL, &anew));
  OK(slth_conv2d_forward(engine, anew, readable_images(X), NULL, Z, workspace));
  FOR_EACH_PIXEL(Y) CHECK(*pixel(Y, n, c, y, x) == *pixel(Z, n, c, y, x));
  RETURNS(SLTH_NO_INPUT_GRADIENT, slth_conv2d_input_gradient(engine, anew, readable_images(dY), NULL, dX, workspace));

  slth_conv2d_free(anew), slth_conv2d_free(conv2d);
  dispose(w), dispose(bias), dispose(dw), dispose(other);
  free(mask), free(other_mask);
  free(X.data), free(Y.data), free(Z.data), free(dX.data), free(dY.data);
}

/* A call may read some planes of an array and write others, as in a concatenation of channels. */
static void check_concatenation(const slth_engine *engine, slth_workspace *workspace) {
  slth_conv2d_shape shape = {
      .size = sizeof shape, .channels = 2, .height = 5, .width = 6, .outputs = 3,
      .kernel_height = 3, .kernel_width = 3, .stride = 1, .padding = 1};
  size_t both[4] = {4, 5, 5, 6};
  slth_matrix_mut w = noisy(3, 18, ROWS);
  slth_conv2d *conv2d;
  OK(slth_conv2d_prepare(engine, &shape, readable(w), NULL, NULL, &conv2d));
  slth_images_mut all = noisy_images(both, false), apart = images((size_t[4]){4, 3, 5, 6}, false);
  slth_images_mut y = all;
  slth_images x = readable_images(all);
  x.sizes[1] = 2, y.sizes[1] = 3, y.data = pixel(all, 0, 2, 0, 0);
  OK(slth_conv2d_forward(engine, conv2d, x, NULL, apart, workspace));
  OK(slth_conv2d_forward(engine, conv2d, x, NULL, y, workspace));
  FOR_EACH_PIXEL(apart) CHECK(*pixel(apart, n, c, y, x) == *pixel(all, n, 2 + c, y, x));
  y.data = pixel(all, 0, 1, 0, 0);
  RETURNS(SLTH_ALIASED, slth_conv2d_forward(engine, conv2d, x, NULL, y, workspace));
  slth_conv2d_free(conv2d), dispose(w), free(all.data), free(apart.data);
}

void test_conv2d(const slth_engine *engine) {
  slth_workspace *workspace = slth_workspace_new();
  slth_conv2d_shape shape = {
      .size = sizeof shape, .channels = 3, .height = 9, .width = 7, .outputs = 4,
      .kernel_height = 3, .kernel_width = 2, .stride = 1, .padding = 1};
  check_conv2d(engine, &shape, 3, 0.5, false, workspace);
  check_conv2d(engine, &shape, 17, 1, true, workspace);
  shape.stride = 2;
  check_conv2d(engine, &shape, 5, 0.2, true, workspace);
  check_conv2d(engine, &shape, 1, 0.7, false, workspace);
  check_conv2d(engine, &shape, 0, 0.7, false, workspace);
  check_concatenation(engine, workspace);

  slth_conv2d *conv2d;
  slth_matrix_mut w = noisy(4, 18, ROWS);
  shape.stride = 0;
  RETURNS(SLTH_OUT_OF_RANGE, slth_conv2d_prepare(engine, &shape, readable(w), NULL, NULL, &conv2d));
  CHECK(slth_conv2d_out_height(&shape) == 0 && slth_conv2d_out_height(NULL) == 0 && slth_conv2d_out_width(NULL) == 0);
  shape.stride = 1, shape.height = SIZE_MAX / 2 + 1;
  RETURNS(SLTH_OUT_OF_RANGE, slth_conv2d_prepare(engine, &shape, readable(w), NULL, NULL, &conv2d));
  slth_images huge = slth_nchw(w.data, 2, SIZE_MAX, SIZE_MAX, 2);
  slth_matrix_mut dw = noisy(1, 1, ROWS);
  RETURNS(SLTH_OVERFLOW, slth_conv2d_weight_gradient(engine, &shape, huge, huge, dw, workspace));
  dispose(dw);
  RETURNS(SLTH_NULL_POINTER, slth_conv2d_prepare(engine, NULL, readable(w), NULL, NULL, &conv2d));
  dispose(w);
  slth_workspace_free(workspace);
}
