#include "check.h"

static const size_t SHAPES[][3] = {{1, 1, 1},     {7, 13, 1}, {33, 70, 5}, {64, 65, 33},
                                   {70, 150, 40}, {0, 3, 2},  {3, 0, 2},   {3, 2, 0}};

static float relu(float x) { return x > 0 ? x : 0; }

/* An element of slth_matmul_forward by definition: one chain of fused multiply-adds over the kept weights. */
static float expected_sum(slth_matrix_mut w, const uint64_t *mask, slth_matrix_mut x, size_t n, size_t o, float sum) {
  for (size_t i = 0; i < w.cols; i++)
    if (kept(mask, o * w.cols + i)) sum = fmaf(*at(w, o, i), *at(x, n, i), sum);
  return sum;
}

static void check_forward(const slth_engine *engine, slth_matrix_mut w, const uint64_t *mask, const slth_weights *weights,
                          size_t batch, enum layout layout, slth_workspace *workspace) {
  slth_matrix_mut x = noisy(batch, w.cols, layout), y = matrix(batch, w.rows, layout), bias = noisy(1, w.rows, ROWS);
  slth_epilogue layer = {.size = sizeof layer, .bias = bias.data, .activation = SLTH_RELU};
  slth_epilogue more = {.size = sizeof more, .accumulate = 1};
  for (int way = 0; way < 3; way++) {
    slth_matrix_mut before = matrix(batch, w.rows, ROWS);
    for (size_t n = 0; n < batch; n++)
      for (size_t o = 0; o < w.rows; o++) *at(before, n, o) = way == 2 ? *at(y, n, o) : 0;
    const slth_epilogue *epilogue = way == 0 ? NULL : way == 1 ? &layer : &more;
    if (weights != NULL)
      OK(slth_matmul_forward(engine, weights, readable(x), epilogue, y, workspace));
    else
      OK(slth_matmul_dense_forward(engine, readable(w), readable(x), epilogue, y, workspace));
    for (size_t n = 0; n < batch; n++)
      for (size_t o = 0; o < w.rows; o++) {
        float sum = expected_sum(w, mask, x, n, o, *at(before, n, o));
        if (way == 1) sum = relu(sum + bias.data[o]);
        CHECK(*at(y, n, o) == sum);
      }
    dispose(before);
  }
  dispose(x), dispose(y), dispose(bias);
}

static void check_input_gradient(const slth_engine *engine, slth_matrix_mut w, const uint64_t *mask,
                                 const slth_weights *weights, size_t batch, enum layout layout, slth_workspace *workspace) {
  slth_matrix_mut dy = noisy(batch, w.rows, layout), dx = matrix(batch, w.cols, layout), x = noisy(batch, w.cols, layout);
  slth_matrix relu_output = readable(x);
  for (int with_relu = 0; with_relu < 2; with_relu++) {
    const slth_matrix *gate = with_relu ? &relu_output : NULL;
    if (weights != NULL)
      OK(slth_matmul_input_gradient(engine, weights, readable(dy), gate, dx, workspace));
    else
      OK(slth_matmul_dense_input_gradient(engine, readable(w), readable(dy), gate, dx, workspace));
    for (size_t n = 0; n < batch; n++)
      for (size_t i = 0; i < w.cols; i++) {
        float sum = 0;
        for (size_t o = 0; o < w.rows; o++)
          if (kept(mask, o * w.cols + i)) sum = fmaf(*at(w, o, i), *at(dy, n, o), sum);
        CHECK(*at(dx, n, i) == (with_relu && !(*at(x, n, i) > 0) ? 0 : sum));
      }
  }
  dispose(dy), dispose(dx), dispose(x);
}

static void check_weight_gradient(const slth_engine *engine, slth_matrix_mut w, const uint64_t *mask, size_t batch,
                                  enum layout layout, slth_workspace *workspace) {
  slth_matrix_mut dy = noisy(batch, w.rows, layout), x = noisy(batch, w.cols, layout), scores = noisy(w.rows, w.cols, layout);
  slth_matrix_mut dw = matrix(w.rows, w.cols, layout), ds = matrix(w.rows, w.cols, layout);
  OK(slth_matmul_weight_gradient(engine, readable(dy), readable(x), mask, dw, workspace));
  OK(slth_matmul_score_gradient(engine, readable(dy), readable(x), readable(w), readable(scores), ds, workspace));
  for (size_t o = 0; o < w.rows; o++)
    for (size_t i = 0; i < w.cols; i++) {
      float sum = 0, score = *at(scores, o, i);
      for (size_t n = 0; n < batch; n++) sum = fmaf(*at(dy, n, o), *at(x, n, i), sum);
      CHECK(*at(dw, o, i) == (kept(mask, o * w.cols + i) ? sum : 0));
      CHECK(*at(ds, o, i) == (float)((score > 0) - (score < 0)) * (*at(w, o, i) * sum));
    }
  dispose(dy), dispose(x), dispose(scores), dispose(dw), dispose(ds);
}

void test_matmul(const slth_engine *engine) {
  const double shares[] = {0, 0.1, 0.5, 1};
  slth_workspace *workspace = slth_workspace_new();
  for (size_t shape = 0; shape < COUNT(SHAPES); shape++)
    for (size_t share = 0; share < COUNT(shares); share++) {
      size_t outputs = SHAPES[shape][0], inputs = SHAPES[shape][1], batch = SHAPES[shape][2];
      enum layout layout = (shape + share) % LAYOUTS;
      slth_matrix_mut w = noisy(outputs, inputs, layout);
      uint64_t *mask = some_mask(outputs * inputs, shares[share]);
      for (slth_strategy strategy = SLTH_AUTO; strategy <= SLTH_BITMASK; strategy++) {
        slth_prepare_options options = {.size = sizeof options, .strategy = strategy, .flags = SLTH_INPUT_GRADIENT};
        options.max_batch = strategy == SLTH_AUTO ? batch : 0;
        slth_weights *weights;
        OK(slth_weights_prepare(engine, readable(w), mask, &options, &weights));
        check_forward(engine, w, mask, weights, batch, layout, workspace);
        check_input_gradient(engine, w, mask, weights, batch, layout, workspace);
        slth_weights_free(weights);
      }
      check_weight_gradient(engine, w, mask, batch, layout, workspace);
      check_weight_gradient(engine, w, NULL, batch, (layout + 1) % LAYOUTS, workspace);
      check_forward(engine, w, NULL, NULL, batch, layout, workspace);
      check_input_gradient(engine, w, NULL, NULL, batch, layout, workspace);
      dispose(w), free(mask);
    }
  slth_workspace_free(workspace);
}

void test_weights(const slth_engine *engine) {
  const size_t outputs = 30, inputs = 41, batch = 20;
  slth_workspace *workspace = slth_workspace_new();
  slth_matrix_mut w = noisy(outputs, inputs, ROWS), other = noisy(outputs, inputs, COLUMNS);
  uint64_t *few = some_mask(outputs * inputs, 0.1), *half = some_mask(outputs * inputs, 0.5);
  size_t few_kept, half_kept;
  OK(slth_mask_kept(few, outputs * inputs, &few_kept));
  OK(slth_mask_kept(half, outputs * inputs, &half_kept));

  slth_weights *weights;
  slth_prepare_options options = {.size = sizeof options, .max_batch = batch, .reuse = SLTH_REUSE_ONCE};
  OK(slth_weights_prepare(engine, readable(w), few, &options, &weights));
  CHECK(slth_weights_outputs(weights) == outputs && slth_weights_inputs(weights) == inputs);
  CHECK(slth_weights_kept(weights) == few_kept);
  CHECK(slth_weights_bytes(weights) > 8 * few_kept);
  CHECK(slth_weights_format(weights) == SLTH_FORMAT_BLOCKED);
  slth_prepare_options found = {.size = sizeof found};
  OK(slth_weights_get_options(weights, &found));
  CHECK(memcmp(&found, &options, sizeof found) == 0);
  check_forward(engine, w, few, weights, batch, ROWS, workspace);

  OK(slth_weights_rebuild(weights, engine, half));
  CHECK(slth_weights_kept(weights) == half_kept);
  check_forward(engine, w, half, weights, batch, ROWS, workspace);
  OK(slth_weights_set_values(weights, engine, readable(other)));
  check_forward(engine, other, half, weights, batch, COLUMNS, workspace);

  /* A batch larger than max_batch, and a batch of one. */
  check_forward(engine, other, half, weights, 3 * batch, ROWS, workspace);
  check_forward(engine, other, half, weights, 1, ROWS, workspace);

  uint8_t *bytes;
  size_t len;
  OK(slth_weights_to_bytes(weights, &bytes, &len));
  slth_weights *again;
  OK(slth_weights_from_bytes(engine, bytes, len, &again));
  CHECK(slth_weights_kept(again) == half_kept);
  check_forward(engine, other, half, again, batch, GAPS, workspace);
  slth_weights_free(again);
  RETURNS(SLTH_MALFORMED, slth_weights_from_bytes(engine, bytes, len - 1, &again));
  CHECK(again == NULL);
  RETURNS(SLTH_MALFORMED, slth_weights_from_bytes(engine, NULL, 0, &again));
  slth_bytes_free(bytes, len);
  slth_weights_free(weights);

  /* SLTH_DROP_SOURCE drops the removed weights for good, so no other mask can be set. */
  options = (slth_prepare_options){.size = sizeof options, .max_batch = 1, .flags = SLTH_DROP_SOURCE};
  OK(slth_weights_prepare(engine, readable(w), few, &options, &weights));
  CHECK(slth_weights_format(weights) == SLTH_FORMAT_INTERLEAVED);
  RETURNS(SLTH_NO_SOURCE, slth_weights_rebuild(weights, engine, half));
  CHECK(strstr(slth_last_error(), "SLTH_DROP_SOURCE") != NULL);
  check_forward(engine, w, few, weights, 1, ROWS, workspace);
  OK(slth_weights_set_values(weights, engine, readable(other)));
  check_forward(engine, other, few, weights, 1, ROWS, workspace);
  slth_weights_free(weights);

  /* Without a mask all weights are kept. */
  OK(slth_weights_prepare(engine, readable(w), NULL, NULL, &weights));
  CHECK(slth_weights_kept(weights) == outputs * inputs && slth_weights_format(weights) == SLTH_FORMAT_DENSE);
  check_forward(engine, w, NULL, weights, batch, COLUMNS, workspace);
  slth_weights_free(weights);

  /* bf16 storage rounds weights once, to nearest, ties to even. */
  options = (slth_prepare_options){.size = sizeof options, .max_batch = 4, .storage = SLTH_BF16};
  OK(slth_weights_prepare(engine, readable(w), half, &options, &weights));
  OK(slth_weights_get_options(weights, &found));
  CHECK(found.storage == SLTH_BF16);
  for (size_t r = 0; r < outputs; r++)
    for (size_t c = 0; c < inputs; c++) {
      float *element = &w.data[r * w.row_stride + c * w.col_stride];
      uint32_t bits;
      memcpy(&bits, element, sizeof bits);
      bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
      memcpy(element, &bits, sizeof bits);
    }
  check_forward(engine, w, half, weights, 3, ROWS, workspace);
  slth_weights_free(weights);

  dispose(w), dispose(other), free(few), free(half);
  slth_workspace_free(workspace);
}
