#include "check.h"

static size_t size_of(uint64_t bits) {
  size_t size = 0;
  for (; bits != 0; bits &= bits - 1) size++;
  return size;
}

static bool allows(const slth_search *search, uint64_t bits) {
  if (search->exactly != 0) return size_of(bits) == search->exactly;
  return search->at_most == 0 || size_of(bits) <= search->at_most;
}

static double residual_of(uint64_t bits, const float *candidates, size_t n, float target, float epsilon) {
  double sum = 0;
  for (size_t i = 0; i < n; i++) sum += bits >> i & 1 ? candidates[i] : 0;
  double residual = fabs(sum - target) - epsilon * (double)size_of(bits);
  return residual > 0 ? residual : 0;
}

/* With candidates that are multiples of 2^-15 and epsilon of 2^-10, the search is exact. */
static void check_nearest(const slth_engine *engine, size_t n, slth_search search) {
  enum { TARGETS = 20 };
  float candidates[TARGETS * 12], targets[TARGETS];
  for (size_t i = 0; i < TARGETS * n; i++) candidates[i] = noise();
  for (size_t i = 0; i < TARGETS; i++) targets[i] = 2 * noise();
  slth_subset shared[TARGETS], each[TARGETS];
  search.size = sizeof search;
  float epsilon = search.epsilon;
  OK(slth_subset_nearest(engine, &search, candidates, n, targets, TARGETS, shared));
  OK(slth_subset_nearest_each(engine, &search, candidates, n, targets, TARGETS, each));
  for (size_t i = 0; i < TARGETS; i++)
    for (int way = 0; way < 2; way++) {
      const float *from = way ? candidates + i * n : candidates;
      slth_subset found = way ? each[i] : shared[i];
      uint64_t best = 0;
      double least = INFINITY;
      for (uint64_t bits = 0; bits < (uint64_t)1 << n; bits++) {
        if (!allows(&search, bits)) continue;
        double residual = residual_of(bits, from, n, targets[i], epsilon);
        if (residual < least) best = bits, least = residual;
      }
      CHECK(found.bits == best);
      CHECK(found.residual == least);
      double sum, expected = 0;
      OK(slth_subset_sum(found.bits, from, n, &sum));
      for (size_t j = 0; j < n; j++) expected += found.bits >> j & 1 ? from[j] : 0;
      CHECK(sum == expected);
    }
}

static void check_sums(void) {
  enum { N = 9 };
  float candidates[N], *sums = memory(sizeof *sums << N);
  uint8_t *sizes = memory((size_t)1 << N);
  for (size_t i = 0; i < N; i++) candidates[i] = noise();
  OK(slth_subset_all_sums(candidates, N, sums, sizes));
  for (size_t s = 0; s < 1 << N; s++) {
    float sum = 0;
    int size = 0;
    for (size_t i = 0; i < N; i++)
      if (s >> i & 1) sum += candidates[i], size++;
    CHECK(sums[s] == sum && sizes[s] == size);
  }
  RETURNS(SLTH_TOO_MANY_CANDIDATES, slth_subset_all_sums(candidates, 100, sums, sizes));
  RETURNS(SLTH_ALIASED, slth_subset_all_sums(candidates, N, sums, (uint8_t *)sums));
  RETURNS(SLTH_NULL_POINTER, slth_subset_all_sums(candidates, N, NULL, sizes));
  OK(slth_subset_all_sums(NULL, 0, sums, sizes));
  CHECK(sums[0] == 0 && sizes[0] == 0);
  free(sums), free(sizes);
}

static void check_coverage(const slth_engine *engine) {
  slth_coverage *coverage;
  double from, to;
  bool covered = true;
  OK(slth_coverage_new(-0.5f, 0.5f, 0.25f, NULL, &coverage));
  CHECK(!slth_coverage_is_covered(coverage));
  OK(slth_coverage_push(coverage, engine, 0.4f, &covered));
  CHECK(!covered);
  OK(slth_coverage_first_gap(coverage, &from, &to));
  CHECK(from == -0.5 && fabs(to + 0.25) < 1e-6);
  RETURNS(SLTH_NOT_FINITE, slth_coverage_push(coverage, engine, INFINITY, NULL));
  RETURNS(SLTH_OUT_OF_RANGE, slth_coverage_push(coverage, engine, 100, NULL));
  OK(slth_coverage_push(coverage, engine, -0.4f, NULL));
  CHECK(slth_coverage_is_covered(coverage));
  OK(slth_coverage_first_gap(coverage, &from, &to));
  CHECK(isnan(from) && isnan(to));
  slth_coverage_free(coverage);

  /* Two candidates give 0.25 = 0.5 - 0.25; a single one does not count. */
  slth_search pairs = {.size = sizeof pairs, .exactly = 2};
  OK(slth_coverage_new(0.25f, 0.25f, 0.01f, &pairs, &coverage));
  OK(slth_coverage_push(coverage, engine, 0.25f, &covered));
  CHECK(!covered);
  OK(slth_coverage_push(coverage, engine, 0.5f, &covered));
  CHECK(!covered);
  OK(slth_coverage_push(coverage, engine, -0.25f, &covered));
  CHECK(covered);
  slth_coverage_free(coverage);

  RETURNS(SLTH_OUT_OF_RANGE, slth_coverage_new(1, 0, 0.25f, NULL, &coverage));
  CHECK(coverage == NULL && !slth_coverage_is_covered(NULL));
  RETURNS(SLTH_NULL_POINTER, slth_coverage_push(NULL, engine, 1, NULL));
  RETURNS(SLTH_NULL_POINTER, slth_coverage_first_gap(NULL, &from, &to));
  slth_coverage_free(NULL);
}

void test_subset_sum(const slth_engine *engine) {
  check_nearest(engine, 1, (slth_search){0});
  check_nearest(engine, 12, (slth_search){0});
  check_nearest(engine, 10, (slth_search){.method = SLTH_BITONIC});
  check_nearest(engine, 10, (slth_search){.method = SLTH_BRUTE_FORCE});
  check_nearest(engine, 10, (slth_search){.method = SLTH_MEET_IN_THE_MIDDLE});
  check_nearest(engine, 11, (slth_search){.epsilon = 1.0f / 1024});
  check_nearest(engine, 11, (slth_search){.at_most = 3});
  check_nearest(engine, 11, (slth_search){.exactly = 4, .epsilon = 1.0f / 1024});
  check_sums();
  check_coverage(engine);

  float candidates[50] = {0}, target = 0;
  slth_subset found = {7, 7};
  slth_search search = {.size = sizeof search};
  RETURNS(SLTH_NO_CANDIDATES, slth_subset_nearest(engine, NULL, NULL, 0, &target, 1, &found));
  RETURNS(SLTH_TOO_MANY_CANDIDATES, slth_subset_nearest(engine, NULL, candidates, 49, &target, 1, &found));
  RETURNS(SLTH_NULL_POINTER, slth_subset_nearest(engine, NULL, candidates, 3, &target, 1, NULL));
  RETURNS(SLTH_OVERFLOW, slth_subset_nearest_each(engine, NULL, candidates, SIZE_MAX / 2, &target, 3, &found));
  search.epsilon = -1;
  RETURNS(SLTH_OUT_OF_RANGE, slth_subset_nearest(engine, &search, candidates, 3, &target, 1, &found));
  search.epsilon = 1, search.method = SLTH_BITONIC;
  RETURNS(SLTH_NOT_BY_BITONIC, slth_subset_nearest(engine, &search, candidates, 3, &target, 1, &found));
  search = (slth_search){.size = sizeof search, .at_most = 1, .exactly = 1};
  RETURNS(SLTH_OUT_OF_RANGE, slth_subset_nearest(engine, &search, candidates, 3, &target, 1, &found));
  search = (slth_search){.size = sizeof search, .exactly = 4};
  RETURNS(SLTH_OUT_OF_RANGE, slth_subset_nearest(engine, &search, candidates, 3, &target, 1, &found));
  search = (slth_search){.size = sizeof search, .method = 4};
  RETURNS(SLTH_OUT_OF_RANGE, slth_subset_nearest(engine, &search, candidates, 3, &target, 1, &found));
  candidates[1] = NAN;
  RETURNS(SLTH_NOT_FINITE, slth_subset_nearest(engine, NULL, candidates, 3, &target, 1, &found));
  CHECK(found.bits == 7 && found.residual == 7);
  OK(slth_subset_nearest(engine, NULL, candidates, 1, NULL, 0, NULL));
  double sum;
  RETURNS(SLTH_OUT_OF_RANGE, slth_subset_sum(8, candidates, 3, &sum));
}
