#include "check.h"

/* A score with what the order depends on. */
struct ranked {
  float key;
  size_t index;
};

static int compare(const void *a, const void *b) {
  const struct ranked *x = a, *y = b;
  if (x->key != y->key) return x->key < y->key ? -1 : 1;
  return x->index < y->index ? -1 : x->index > y->index;
}

static void check_selection(const slth_engine *engine, slth_selector *selector, const size_t *lens, size_t count, size_t keep,
                            slth_order order, bool smallest, const slth_threshold *hint) {
  size_t all = 0, before = 0;
  for (size_t i = 0; i < count; i++) all += lens[i];
  slth_layer *layers = memory(count * sizeof *layers);
  struct ranked *ranks = memory(all * sizeof *ranks);
  for (size_t i = 0; i < count; i++) {
    float *scores = memory(lens[i] * sizeof *scores);
    for (size_t j = 0; j < lens[i]; j++) {
      /* Rounded, so that some scores are equal. */
      scores[j] = floorf(noise() * 500) / 500;
      ranks[before + j] = (struct ranked){order == SLTH_SIGNED ? scores[j] : fabsf(scores[j]), before + j};
    }
    before += lens[i];
    layers[i] = (slth_layer){scores, lens[i], memory(8 * slth_mask_words(lens[i])), memory(lens[i])};
  }
  qsort(ranks, all, sizeof *ranks, compare);

  slth_threshold threshold;
  slth_selection selection = {.size = sizeof selection, .keep = keep, .order = order, .smallest = smallest, .hint = hint};
  OK(slth_top_k(engine, selector, layers, count, &selection, &threshold));

  bool *expected = calloc(all + 1, sizeof *expected);
  CHECK(expected != NULL);
  for (size_t i = 0; i < all; i++) expected[ranks[i].index] = smallest ? i < keep : i >= all - keep;
  before = 0;
  for (size_t i = 0; i < count; i++) {
    for (size_t j = 0; j < 64 * slth_mask_words(lens[i]); j++)
      CHECK(kept(layers[i].mask, j) == (j < lens[i] && expected[before + j]));
    CHECK(memcmp(layers[i].keep, expected + before, lens[i] * sizeof *expected) == 0);
    before += lens[i];
  }

  float value;
  size_t index, cut = smallest ? keep : all - keep;
  OK(slth_threshold_get(&threshold, &value, &index));
  CHECK(cut == all ? isnan(value) && index == SIZE_MAX : value == ranks[cut].key && index == ranks[cut].index);
  OK(slth_threshold_get(&threshold, NULL, NULL));

  /* The threshold is its own hint and is overwritten; masks may be NULL. */
  selection.hint = &threshold;
  slth_threshold same = threshold;
  for (size_t i = 0; i < count; i++) {
    memset(layers[i].keep, 2, lens[i]);
    free(layers[i].mask);
    layers[i].mask = NULL;
  }
  OK(slth_top_k(engine, selector, layers, count, &selection, &threshold));
  CHECK(memcmp(&same, &threshold, sizeof same) == 0);
  before = 0;
  for (size_t i = 0; i < count; before += lens[i++])
    CHECK(memcmp(layers[i].keep, expected + before, lens[i] * sizeof *expected) == 0);

  for (size_t i = 0; i < count; i++) free((float *)layers[i].scores), free(layers[i].keep);
  free(layers), free(ranks), free(expected);
}

static void test_keep(void) {
  CHECK(slth_keep(0.9, 784 * 500) == 39200 && slth_keep(0.25, 10) == 8);
  CHECK(slth_keep(0, 7) == 7 && slth_keep(1, 7) == 0 && slth_keep(0.5, 0) == 0);
  CHECK(slth_keep(-1, 7) == 7 && slth_keep(2, 7) == 0 && slth_keep(NAN, 7) == 7);
}

void test_top_k(const slth_engine *engine) {
  test_keep();
  slth_selector *selector = slth_selector_new();
  const size_t lens[] = {1000, 1, 0, 20000, 63, 2049};
  slth_threshold malformed = {0};
  for (int smallest = 0; smallest < 2; smallest++)
    for (slth_order order = SLTH_MAGNITUDE; order <= SLTH_SIGNED; order++) {
      check_selection(engine, selector, lens, 6, 11556, order, smallest, NULL);
      check_selection(engine, selector, lens, 1, 0, order, smallest, NULL);
      check_selection(engine, selector, lens + 1, 1, 1, order, smallest, NULL);
      check_selection(engine, selector, lens + 2, 1, 0, order, smallest, NULL);
      check_selection(engine, selector, lens + 3, 1, 19999, order, smallest, NULL);
      check_selection(engine, selector, lens, 0, 0, order, smallest, NULL);
    }

  float scores[3] = {1, NAN, 2};
  uint64_t mask = 7;
  slth_layer layer = {scores, 3, &mask, NULL};
  slth_selection selection = {.size = sizeof selection, .keep = 1};
  RETURNS(SLTH_NOT_A_NUMBER, slth_top_k(engine, selector, &layer, 1, &selection, NULL));
  CHECK(mask == 7);
  selection.keep = 4;
  RETURNS(SLTH_KEEP_TOO_LARGE, slth_top_k(engine, selector, &layer, 1, &selection, NULL));
  selection.keep = 1, selection.order = 2;
  RETURNS(SLTH_OUT_OF_RANGE, slth_top_k(engine, selector, &layer, 1, &selection, NULL));
  selection.order = SLTH_SIGNED, selection.hint = &malformed;
  RETURNS(SLTH_MALFORMED, slth_top_k(engine, selector, &layer, 1, &selection, NULL));
  RETURNS(SLTH_MALFORMED, slth_threshold_get(&malformed, NULL, NULL));
  RETURNS(SLTH_NULL_POINTER, slth_threshold_get(NULL, NULL, NULL));
  selection.hint = NULL, selection.order = SLTH_MAGNITUDE, scores[1] = 0;
  RETURNS(SLTH_NULL_POINTER, slth_top_k(engine, selector, NULL, 1, &selection, NULL));
  RETURNS(SLTH_NULL_POINTER, slth_top_k(engine, selector, &layer, 1, NULL, NULL));
  RETURNS(SLTH_NULL_POINTER, slth_top_k(engine, NULL, &layer, 1, &selection, NULL));
  slth_layer second_wrong[] = {layer, {NULL, 3, &mask, NULL}};
  RETURNS(SLTH_NULL_POINTER, slth_top_k(engine, selector, second_wrong, 2, &selection, NULL));
  CHECK(strcmp(slth_last_error(), "layers[1].scores is NULL") == 0);
  /* What is written is neither read nor written twice. */
  float others[3] = {3, 4, 5};
  union {
    float scores[4];
    uint64_t mask[2];
    bool keep[16];
  } shared = {{1, 2, 3, 4}};
  bool keep[3];
  slth_layer over_scores[] = {{scores, 3, shared.mask, NULL}, {shared.scores, 3, &mask, NULL}};
  RETURNS(SLTH_ALIASED, slth_top_k(engine, selector, over_scores, 2, &selection, NULL));
  CHECK(strcmp(slth_last_error(), "layers[0].mask is written to, and its memory overlaps that of layers[1].scores") == 0);
  slth_layer same_mask[] = {{scores, 3, &mask, NULL}, {others, 3, &mask, NULL}};
  RETURNS(SLTH_ALIASED, slth_top_k(engine, selector, same_mask, 2, &selection, NULL));
  CHECK(strcmp(slth_last_error(), "layers[1].mask is written to, and its memory overlaps that of layers[0].mask") == 0);
  slth_layer over_itself = {scores, 3, shared.mask, shared.keep + 7};
  RETURNS(SLTH_ALIASED, slth_top_k(engine, selector, &over_itself, 1, &selection, NULL));
  RETURNS(SLTH_ALIASED, slth_mask_from_bools(shared.keep, 9, shared.mask));
  RETURNS(SLTH_ALIASED, slth_mask_to_bools(shared.mask, 9, shared.keep));
  RETURNS(SLTH_ALIASED, slth_mask_apply(shared.mask, 2, shared.scores));
  CHECK(shared.scores[0] == 1 && shared.scores[3] == 4);
  slth_layer same_scores[] = {{scores, 3, &mask, keep}, {scores, 3, NULL, NULL}};
  OK(slth_top_k(engine, selector, same_scores, 2, &selection, NULL));
  OK(slth_top_k(engine, selector, &layer, 1, &selection, NULL));
  CHECK(mask == 4);
  slth_selector_free(selector);
  slth_selector_free(NULL);
}

void test_masks(void) {
  const size_t lens[] = {0, 1, 63, 64, 65, 2047, 2048, 2049, 5000};
  for (size_t n = 0; n < COUNT(lens); n++) {
    size_t len = lens[n], found;
    uint64_t *mask = some_mask(len, 0.4), *again = memory(8 * slth_mask_words(len));
    bool *keep = memory(len);
    float *values = memory(4 * len);
    OK(slth_mask_to_bools(mask, len, keep));
    OK(slth_mask_from_bools(keep, len, again));
    CHECK(memcmp(mask, again, 8 * slth_mask_words(len)) == 0);
    size_t expected = 0;
    for (size_t i = 0; i < len; i++) {
      CHECK(keep[i] == kept(mask, i));
      expected += keep[i];
      values[i] = keep[i] ? (float)i : NAN;
    }
    OK(slth_mask_kept(mask, len, &found));
    CHECK(found == expected);
    OK(slth_mask_apply(mask, len, values));
    for (size_t i = 0; i < len; i++) CHECK(values[i] == (keep[i] ? (float)i : 0));
    free(mask), free(again), free(keep), free(values);
  }
  OK(slth_mask_to_bools(NULL, 0, NULL));
  RETURNS(SLTH_NULL_POINTER, slth_mask_to_bools(NULL, 1, NULL));
  RETURNS(SLTH_NULL_POINTER, slth_mask_from_bools(NULL, 1, NULL));
  RETURNS(SLTH_NULL_POINTER, slth_mask_kept(NULL, 1, NULL));
  RETURNS(SLTH_NULL_POINTER, slth_mask_apply(NULL, 1, NULL));
}
