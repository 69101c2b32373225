/* Prunes a layer to sparsity 0.9 by the magnitude of its weights, and computes y = max(0, x * W^T + bias) with what is left.
 *
 *   bindings/c/install --prefix "$HOME/.local"
 *   export PKG_CONFIG_PATH=$HOME/.local/lib/pkgconfig
 *   cc layer.c $(pkg-config --cflags --libs slth) -Wl,-rpath,"$HOME/.local/lib" -o layer
 */
#include <slth.h>
#include <stdio.h>
#include <stdlib.h>

enum { OUTPUTS = 500, INPUTS = 784, BATCH = 128, WEIGHTS = OUTPUTS * INPUTS };

static void check(slth_status status) {
  if (status != SLTH_OK) {
    fprintf(stderr, "%s: %s\n", slth_status_message(status), slth_last_error());
    exit(1);
  }
}

static float *random_floats(size_t len) {
  float *all = (float *)malloc(len * sizeof *all);
  for (size_t i = 0; i < len; i++) all[i] = (float)rand() / (float)RAND_MAX - 0.5f;
  return all;
}

int main(void) {
  float *weights = random_floats(WEIGHTS), *bias = random_floats(OUTPUTS), *x = random_floats(BATCH * INPUTS);
  float *y = (float *)malloc(BATCH * OUTPUTS * sizeof *y);
  uint64_t *mask = (uint64_t *)malloc(slth_mask_words(WEIGHTS) * sizeof *mask);

  slth_engine *engine;
  check(slth_engine_new(NULL, 0, &engine)); /* the fastest instruction set, all cores */

  slth_selector *selector = slth_selector_new();
  slth_layer layer = {weights, WEIGHTS, mask, NULL};
  slth_selection selection = {.size = sizeof selection, .keep = slth_keep(0.9, WEIGHTS)};
  slth_threshold threshold;
  float smallest_kept;
  check(slth_top_k(engine, selector, &layer, 1, &selection, &threshold));
  check(slth_threshold_get(&threshold, &smallest_kept, NULL));

  slth_weights *prepared;
  slth_prepare_options options = {.size = sizeof options, .max_batch = BATCH};
  check(slth_weights_prepare(engine, slth_row_major(weights, OUTPUTS, INPUTS), mask, &options, &prepared));

  slth_workspace *workspace = slth_workspace_new(); /* one for each thread that calls */
  slth_epilogue relu = {.size = sizeof relu, .bias = bias, .activation = SLTH_RELU};
  slth_matrix from = slth_row_major(x, BATCH, INPUTS);
  slth_matrix_mut to = slth_row_major_mut(y, BATCH, OUTPUTS);
  check(slth_matmul_forward(engine, prepared, from, &relu, to, workspace));

  size_t active = 0;
  for (size_t i = 0; i < BATCH * OUTPUTS; i++) active += y[i] > 0;
  printf("slth %s on %s, %zu threads\n", slth_version(), slth_engine_backend(engine), slth_engine_threads(engine));
  printf("%zu of %d weights kept, all of magnitude %.4f or more; %zu of %d outputs active\n", slth_weights_kept(prepared),
         WEIGHTS, smallest_kept, active, BATCH * OUTPUTS);

  slth_workspace_free(workspace), slth_weights_free(prepared), slth_selector_free(selector), slth_engine_free(engine);
  free(weights), free(bias), free(x), free(y), free(mask);
  return 0;
}
