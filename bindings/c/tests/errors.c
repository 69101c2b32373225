#include "check.h"

void test_status(void) {
  CHECK(slth_last_error()[0] == 0);
  const char *unknown = slth_status_message(999), *error = slth_last_error();
  RETURNS(SLTH_NULL_POINTER, slth_mask_kept(NULL, 1, NULL));
  CHECK(strcmp(error, "mask is NULL") == 0);
  RETURNS(SLTH_UNKNOWN_BACKEND, slth_engine_new("quantum", 1, &(slth_engine *){NULL}));
  CHECK(error == slth_last_error() && strstr(error, "quantum") != NULL);
  for (slth_status status = SLTH_OK; status <= SLTH_UNAVAILABLE_BACKEND; status++)
    CHECK(strcmp(slth_status_message(status), unknown) != 0);
  for (slth_status status = SLTH_NULL_POINTER; status <= SLTH_PANIC; status++)
    CHECK(strcmp(slth_status_message(status), unknown) != 0);
  CHECK(strcmp(slth_status_message(UINT32_MAX), unknown) == 0);
}

/* Each error gives its status, names the argument and leaves y unchanged. */
void test_errors(const slth_engine *engine) {
  const size_t batch = 2, inputs = 3, outputs = 4;
  float w[12] = {0}, x[6] = {0}, y[8], bias[4] = {0}, both[20] = {0};
  for (size_t i = 0; i < 8; i++) y[i] = 7;
  slth_workspace *workspace = slth_workspace_new();
  slth_weights *weights, *none;
  OK(slth_weights_prepare(engine, slth_row_major(w, outputs, inputs), NULL, NULL, &weights));
  slth_matrix X = slth_row_major(x, batch, inputs);
  slth_matrix_mut Y = slth_row_major_mut(y, batch, outputs);
#define FORWARD(status, x, epilogue, y) RETURNS(status, slth_matmul_forward(engine, weights, x, epilogue, y, workspace))

  /* NULL. */
  RETURNS(SLTH_NULL_POINTER, slth_matmul_forward(NULL, weights, X, NULL, Y, workspace));
  CHECK(strcmp(slth_last_error(), "engine is NULL") == 0);
  RETURNS(SLTH_NULL_POINTER, slth_matmul_forward(engine, NULL, X, NULL, Y, workspace));
  RETURNS(SLTH_NULL_POINTER, slth_matmul_forward(engine, weights, X, NULL, Y, NULL));
  FORWARD(SLTH_NULL_POINTER, slth_row_major(NULL, batch, inputs), NULL, Y);
  CHECK(strcmp(slth_last_error(), "x is NULL") == 0);
  FORWARD(SLTH_NULL_POINTER, X, NULL, slth_row_major_mut(NULL, batch, outputs));
  RETURNS(SLTH_NULL_POINTER, slth_weights_prepare(engine, slth_row_major(w, outputs, inputs), NULL, NULL, NULL));
  CHECK(strcmp(slth_last_error(), "prepared is NULL") == 0);
  RETURNS(SLTH_NULL_POINTER, slth_weights_prepare(NULL, slth_row_major(w, outputs, inputs), NULL, NULL, &none));
  RETURNS(SLTH_NULL_POINTER, slth_weights_rebuild(weights, engine, NULL));
  RETURNS(SLTH_NULL_POINTER, slth_weights_rebuild(NULL, engine, (uint64_t[1]){0}));
  RETURNS(SLTH_NULL_POINTER, slth_weights_set_values(NULL, engine, slth_row_major(w, outputs, inputs)));
  RETURNS(SLTH_NULL_POINTER, slth_weights_get_options(weights, NULL));
  RETURNS(SLTH_NULL_POINTER, slth_weights_to_bytes(weights, NULL, NULL));
  CHECK(slth_weights_outputs(NULL) == 0 && slth_weights_inputs(NULL) == 0 && slth_weights_kept(NULL) == 0);
  CHECK(slth_weights_bytes(NULL) == 0 && slth_weights_format(NULL) == 0);
  CHECK(slth_conv2d_kept(NULL) == 0 && slth_conv2d_bytes(NULL) == 0);
  slth_workspace_free(NULL), slth_weights_free(NULL), slth_conv2d_free(NULL), slth_bytes_free(NULL, 0);

  /* Shapes; messages give them as the caller does, batch first. */
  FORWARD(SLTH_SHAPE, slth_row_major(x, inputs, batch), NULL, Y);
  CHECK(strcmp(slth_last_error(), "x: expected 3 columns, found 3 x 2; is it transposed?") == 0);
  FORWARD(SLTH_SHAPE, X, NULL, slth_row_major_mut(y, batch, inputs));
  CHECK(strcmp(slth_last_error(), "y: expected 4 columns, found 2 x 3") == 0);
  RETURNS(SLTH_SHAPE, slth_weights_set_values(weights, engine, slth_row_major(w, inputs, outputs)));
  RETURNS(SLTH_SHAPE, slth_matmul_weight_gradient(engine, X, X, NULL, slth_row_major_mut(y, 2, 2), workspace));
  slth_matrix_mut dx = slth_row_major_mut(y, 1, inputs);
  RETURNS(SLTH_NO_INPUT_GRADIENT,
          slth_matmul_input_gradient(engine, weights, slth_row_major(x, 1, outputs), NULL, dx, workspace));
  CHECK(strstr(slth_last_error(), "SLTH_INPUT_GRADIENT") != NULL);

  /* Alignment. */
  slth_matrix crooked = X;
  crooked.data = (const float *)(const void *)((const char *)both + 1);
  FORWARD(SLTH_MISALIGNED, crooked, NULL, Y);

  /* Strides that exceed the address space, or make elements coincide. */
  slth_matrix wide = X;
  wide.row_stride = SIZE_MAX;
  FORWARD(SLTH_OVERFLOW, wide, NULL, Y);
  wide.row_stride = SIZE_MAX / 8;
  FORWARD(SLTH_OVERFLOW, wide, NULL, Y);
  slth_matrix_mut flat = Y;
  flat.row_stride = 3;
  FORWARD(SLTH_OVERLAP, X, NULL, flat);
  RETURNS(SLTH_OVERFLOW, slth_weights_prepare(engine, (slth_matrix){w, SIZE_MAX / 2, 4, 0, 0}, NULL, NULL, &none));
  CHECK(none == NULL);
  RETURNS(SLTH_OVERFLOW, slth_weights_prepare(engine, (slth_matrix){w, SIZE_MAX / 8, 4, 0, 0}, NULL, NULL, &none));
  RETURNS(SLTH_OVERFLOW, slth_weights_prepare(engine, (slth_matrix){w, SIZE_MAX / 2, 4, 0, 0}, (uint64_t[1]){0}, NULL, &none));

  /* Outputs that overlap inputs. */
  FORWARD(SLTH_ALIASED, slth_row_major(both, batch, inputs), NULL, slth_row_major_mut(both + 5, batch, outputs));
  CHECK(strcmp(slth_last_error(), "y is written to, and its memory overlaps that of x") == 0);
  FORWARD(SLTH_OK, slth_row_major(both, batch, inputs), NULL, slth_row_major_mut(both + 6, batch, outputs));
  slth_epilogue biased = {.size = sizeof biased, .bias = y + 1};
  FORWARD(SLTH_ALIASED, X, &biased, Y);
  /* Disjoint columns of one array are fine: three are read and four written. One column in common is an error. */
  slth_matrix left = {both, batch, inputs, 7, 1};
  slth_matrix_mut right = {both + 3, batch, outputs, 7, 1};
  FORWARD(SLTH_OK, left, NULL, right);
  right.data = both + 2;
  FORWARD(SLTH_ALIASED, left, NULL, right);
  left.data = both + 4, right.data = both;
  FORWARD(SLTH_OK, left, NULL, right);
  right.data = both + 4 + 3;
  FORWARD(SLTH_OK, left, NULL, right);
  left.row_stride = 6;
  FORWARD(SLTH_ALIASED, left, NULL, right);
  slth_matrix pair = slth_row_major(both, 1, 2), read = slth_row_major(y, outputs, 2);
  RETURNS(SLTH_ALIASED, slth_matmul_weight_gradient(engine, pair, X, NULL, slth_row_major_mut(both, 2, 2), workspace));
  uint64_t words[2] = {15};
  slth_matrix_mut over_mask = slth_row_major_mut((float *)(void *)words, 2, 2);
  RETURNS(SLTH_ALIASED, slth_matmul_weight_gradient(engine, slth_row_major(x, 2, 2), slth_row_major(w, 2, 2), words, over_mask, workspace));
  CHECK(strcmp(slth_last_error(), "dw is written to, and its memory overlaps that of mask") == 0);
  RETURNS(SLTH_ALIASED, slth_matmul_dense_forward(engine, read, slth_row_major(x, 1, 2), NULL, Y, workspace));

  /* Structures. */
  slth_epilogue epilogue = {.size = sizeof epilogue, .bias = bias, .activation = 2};
  FORWARD(SLTH_OUT_OF_RANGE, X, &epilogue, Y);
  CHECK(strcmp(slth_last_error(), "epilogue.activation must be SLTH_IDENTITY or SLTH_RELU, found 2") == 0);
  epilogue.activation = SLTH_RELU, epilogue.size = 0;
  FORWARD(SLTH_STRUCT_SIZE, X, &epilogue, Y);
  epilogue.size = SIZE_MAX;
  FORWARD(SLTH_STRUCT_SIZE, X, &epilogue, Y);
  for (size_t i = 0; i < 8; i++) CHECK(y[i] == 7);
  /* A structure of a later version is accepted if the unknown fields are 0. */
  struct {
    slth_epilogue known;
    uint64_t later;
  } later = {{.size = sizeof later, .bias = bias, .activation = SLTH_RELU}, 0};
  FORWARD(SLTH_OK, X, &later.known, Y);
  for (size_t i = 0; i < 8; i++) CHECK(y[i] == 0);
  later.later = 1;
  FORWARD(SLTH_STRUCT_SIZE, X, &later.known, Y);
  struct {
    slth_prepare_options known;
    uint64_t later;
  } options = {{.size = sizeof options}, 9};
  OK(slth_weights_get_options(weights, &options.known));
  CHECK(options.known.size == sizeof options && options.later == 0);
  for (int field = 0; field < 4; field++) {
    slth_prepare_options wrong = {.size = sizeof wrong};
    wrong.reuse = field == 0 ? 2 : 0;
    wrong.strategy = field == 1 ? 4 : 0;
    wrong.storage = field == 2 ? 2 : 0;
    wrong.flags = field == 3 ? 4 : 0;
    RETURNS(SLTH_OUT_OF_RANGE, slth_weights_prepare(engine, slth_row_major(w, outputs, inputs), NULL, &wrong, &none));
    CHECK(none == NULL);
  }
  slth_conv2d_shape no_kernel = {.size = sizeof no_kernel, .channels = 1, .height = 5, .width = 5, .outputs = 1, .kernel_height = 3, .stride = 1};
  slth_conv2d *conv;
  RETURNS(SLTH_OUT_OF_RANGE, slth_conv2d_prepare(engine, &no_kernel, slth_row_major(w, 1, 0), NULL, NULL, &conv));
  CHECK(strcmp(slth_last_error(), "shape.kernel_width must be at least 1, found 0") == 0);
#undef FORWARD
  slth_weights_free(weights);
  slth_workspace_free(workspace);
}
