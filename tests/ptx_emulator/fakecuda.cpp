// A stand-in for libcuda.so.1: the driver API that numba-cuda uses, kernels executed by an emulator on the CPU.
#include "emu.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xmmintrin.h>
#include <algorithm>
#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <vector>
#define API extern "C" __attribute__((visibility("default")))
typedef int R;
enum { OK=0, INVALID_VALUE=1, OOM=2, NOT_INIT=3, NO_DEVICE=100, INVALID_DEVICE=101, INVALID_IMAGE=200, INVALID_CONTEXT=201, NO_BINARY=209, UNSUPPORTED_PTX=222, INVALID_HANDLE=400, NOT_FOUND=500, NOT_READY=600, ILLEGAL=700, LAUNCH_OUT_OF_RES=701, NOT_SUPPORTED=801 };
static std::recursive_mutex big;
#define LOCK std::lock_guard<std::recursive_mutex> guard_(big)
static long envl(const char *n, long d) { const char *v = getenv(n); return v && *v ? atol(v) : d; }
static bool trace_api() { static int t = envl("FAKE_TRACE", 0); return t; }
static std::map<std::string,long> calls;
static pid_t inited = 0;
struct Dev; struct Context { int dev; int refs; };
static Context contexts[8];
static thread_local std::vector<Context*> stack_;
static Context *cur() { return stack_.empty() ? nullptr : stack_.back(); }
static int ndev() { return envl("FAKE_DEVICES", 1); }
#define ENTER(name) LOCK; calls[name]++; if (trace_api()) fprintf(stderr, "[fake] %s\n", name); if (inited != getpid()) return NOT_INIT
#define NEEDCTX(name) ENTER(name); if (!cur()) { noctx(name); return INVALID_CONTEXT; }
static std::map<std::string,long> noctxs;
static void noctx(const char *n) { if (noctxs[n]++ < 3) fprintf(stderr, "[fake] %s without a current context: CUDA_ERROR_INVALID_CONTEXT\n", n); }

// ---------------------------------------------------------------- memory
static const uint64_t ARENA = 8ull << 30;
static char *arena; static uint8_t *initmap; struct Sh { uint32_t wl, wb, wt, we, rl, rb, rt, re; };
static Sh *shadow;
struct Alloc { uint64_t base, size; int dev; };
static std::map<uint64_t, Alloc> allocs; static uint64_t bump = 1 << 20; static uint64_t used[8]; static uint64_t peak;
static std::map<uint64_t, uint64_t> hosts, hostflags;
static uint64_t gran() { return envl("FAKE_GRAN", 2 << 20); }
static uint64_t total_mem() { return envl("FAKE_TOTAL_MEM", 16ll << 30); }
static void arena_init() {
  if (arena) return;
  arena = (char*)mmap((void*)0x7e0000000000ull, ARENA, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0);
  initmap = (uint8_t*)mmap(0, ARENA/4, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0);
  shadow = (Sh*)mmap(0, ARENA/4*sizeof(Sh), PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0);
  if (arena == MAP_FAILED || shadow == MAP_FAILED) { perror("arena"); abort(); }
}
static bool in_arena(uint64_t a) { return a >= (uint64_t)arena && a < (uint64_t)arena + ARENA; }
static Alloc *find(uint64_t a) { auto it = allocs.upper_bound(a); if (it == allocs.begin()) return nullptr; --it; return a < it->second.base + it->second.size ? &it->second : nullptr; }
static bool in_host(uint64_t a, uint64_t n) { auto it = hosts.upper_bound(a); if (it == hosts.begin()) return false; --it; return a + n <= it->first + it->second; }
static long dry();
static std::vector<std::pair<uint64_t,uint64_t>> freelist;
API R cuMemAlloc_v2(uint64_t *p, size_t n) { NEEDCTX("cuMemAlloc");
  if (!n) return INVALID_VALUE; uint64_t need = (n + gran() - 1)/gran()*gran();
  if (used[cur()->dev] + need > total_mem()) return OOM;
  uint64_t room = (n + 511)/512*512 + 4096;
  uint64_t at = 0;
  for (size_t i = 0; i < freelist.size(); i++) if (freelist[i].second == room) { at = freelist[i].first; freelist.erase(freelist.begin()+i); break; }
  if (!at) { if (bump + room > ARENA) return OOM; at = (uint64_t)arena + bump; bump += room; }
  memset(initmap + (at - (uint64_t)arena)/4, 0, n/4 + 1);
  uint32_t *w = (uint32_t*)at; if (!dry()) for (size_t i = 0; i < n/4; i++) w[i] = dry() ? 0 : 0x7fbadbad;
  allocs[at] = {at, n, cur()->dev}; used[cur()->dev] += need; peak = std::max(peak, used[cur()->dev]); *p = at; return OK; }
static void flush_all();
API R cuMemFree_v2(uint64_t p) { NEEDCTX("cuMemFree"); flush_all(); auto it = allocs.find(p); if (it == allocs.end()) return INVALID_VALUE;
  used[it->second.dev] -= (it->second.size + gran() - 1)/gran()*gran(); freelist.push_back({p, (it->second.size + 511)/512*512 + 4096}); allocs.erase(it); return OK; }
API R cuMemGetInfo_v2(size_t *f, size_t *t) { NEEDCTX("cuMemGetInfo"); *t = total_mem(); *f = *t - used[cur()->dev]; return OK; }
static uint64_t hostpeak, hostnow;
API R cuMemHostAlloc(void **p, size_t n, unsigned flags) { NEEDCTX("cuMemHostAlloc"); if (!n) return INVALID_VALUE; if (posix_memalign(p, 4096, n)) return OOM; hosts[(uint64_t)*p] = n; hostflags[(uint64_t)*p] = flags; hostnow += n; hostpeak = std::max(hostpeak, hostnow); return OK; }
API R cuMemFreeHost(void *p) { NEEDCTX("cuMemFreeHost"); flush_all(); auto it = hosts.find((uint64_t)p); if (it == hosts.end()) return INVALID_VALUE; hostnow -= it->second; hosts.erase(it); free(p); return OK; }
API R cuMemHostGetDevicePointer_v2(uint64_t *d, void *p, unsigned) { NEEDCTX("cuMemHostGetDevicePointer"); *d = (uint64_t)p; return OK; }
API R cuMemGetAddressRange_v2(uint64_t *b, size_t *s, uint64_t p) { NEEDCTX("cuMemGetAddressRange"); auto a = find(p); if (!a) return NOT_FOUND; if (b) *b = a->base; if (s) *s = a->size; return OK; }
API R cuPointerGetAttribute(void *d, int attr, uint64_t p) { NEEDCTX("cuPointerGetAttribute"); if (attr == 3 /*device pointer*/) { *(uint64_t*)d = p; return OK; } if (attr == 2) { *(int*)d = find(p) ? 2 : 1; return OK; } if (attr == 9) { *(int*)d = 0; return OK; } return INVALID_VALUE; }

// ---------------------------------------------------------------- emulator
extern "C" void emu_switch(void **save, void *to);
asm(R"(
.text
.globl emu_switch
.type emu_switch,@function
emu_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
)");
static void *sched_sp; static Ctx *running_ctx;
enum { READY, ATBAR, DONE };
static std::mt19937 rng(1);
static long launch_no = 0;
static const KernelInfo *K; static int curdev = 0;
struct Block { int bx, by, bz, id; std::vector<Ctx> t; std::vector<char> shared; std::vector<Sh> sh; std::vector<uint8_t> shinit; int ready, atbar, done; uint32_t epoch; bool traced; };
struct TraceRec { uint32_t warp, pc, occ; uint8_t lane, size, space, rw; uint64_t addr; };
static std::vector<TraceRec> tracev;
struct PcStat { long req=0, sectors=0, ideal=0, waves=0, lanes=0; };
static std::map<std::pair<std::string,int>, PcStat> gstat, sstat;
static std::map<std::pair<std::string,int>, const char*> pcline;
static std::map<std::string,long> problems; static std::map<std::string,std::string> firstp;
static void problem(const std::string &what, const std::string &detail) { if (!problems[what]++) { firstp[what] = detail; fprintf(stderr, "[emu] %s: %s\n", what.c_str(), detail.c_str()); } }
static std::string kshort() { std::string n = K->name; for (auto s : {"to_float","reduce","enter","linearise","5relax","smooth","collect"}) if (n.find(s) != std::string::npos) { std::string r = s; if (r == "5relax") r = K->shared_total && K->shared[4].size > 3000 ? "relax1" : "relax8"; return r; } return n.substr(0, 40); }
static std::string where(Ctx *c, int pc) { char b[300]; snprintf(b, sizeof b, "%s block(%d,%d,%d) thread(%d,%d) pc %d: %s", kshort().c_str(), c->bx, c->by, c->bz, c->tx, c->ty, pc, K->lines[pc]); return b; }
static void check_global(Ctx *c, uint64_t a, int n, int rw, int pc) {
  if (a % n) problem("misaligned global " + kshort(), where(c, pc));
  if (c->tracing) tracev.push_back({(uint32_t)c->lin/32, (uint32_t)pc, c->occ[pc]++, (uint8_t)(c->lin%32), (uint8_t)n, 0, (uint8_t)rw, a});
  if (!in_arena(a)) { if (!in_host(a, n)) { problem("ILLEGAL ADDRESS " + kshort(), where(c, pc)); fprintf(stderr, "address %lx\n", a); abort(); } return; }
  Alloc *al = find(a); if (al && al->dev != curdev) problem("CROSS DEVICE " + kshort(), where(c, pc)); if (!al || a + n > al->base + al->size) { problem("OUT OF BOUNDS " + kshort(), where(c, pc)); abort(); }
  uint64_t w = (a - (uint64_t)arena)/4; Block *b = (Block*)c->block; Sh &s = shadow[w]; uint32_t L = (uint32_t)launch_no, me = b->id + 1, th = c->lin + 1;
  if (rw == 0 && !initmap[w] && n == 4) problem("UNINITIALISED READ " + kshort() + " pc " + std::to_string(pc), where(c, pc));
  if (rw) initmap[w] = 1;
  if (n < 4) return;
  if (rw == 0) {
    if (s.wl == L && s.wb != me) problem("inter-block read after write " + kshort() + " pc " + std::to_string(pc), where(c, pc));
    else if (s.wl == L && s.wt != th && s.we == c->epoch) problem("intra-block global race (read) " + kshort() + " pc " + std::to_string(pc), where(c, pc));
    if (s.rl == L && s.rb != me) s.rb = 0xffffffff; else { s.rb = me; if (s.rl == L && s.re == c->epoch && s.rt != th) s.rt = 0xffffffff; else s.rt = th; }
    s.rl = L; s.re = c->epoch;
  } else if (rw == 1) {
    if (s.wl == L && s.wb != me) problem("inter-block write after write " + kshort() + " pc " + std::to_string(pc), where(c, pc));
    else if (s.wl == L && s.wt != th && s.we == c->epoch) problem("intra-block global race (write/write) " + kshort() + " pc " + std::to_string(pc), where(c, pc));
    if (s.rl == L && s.rb != me) problem("inter-block write after read " + kshort() + " pc " + std::to_string(pc), where(c, pc));
    else if (s.rl == L && s.rt != th && s.re == c->epoch) problem("intra-block global race (write after read) " + kshort() + " pc " + std::to_string(pc), where(c, pc));
    s.wl = L; s.wb = me; s.wt = th; s.we = c->epoch;
  }
}
static void check_shared(Ctx *c, uint64_t a, int n, int rw, int pc) {
  Block *b = (Block*)c->block;
  bool in = false; for (int i = 0; i < K->nshared; i++) if (a >= (uint64_t)K->shared[i].off && a + n <= (uint64_t)K->shared[i].off + K->shared[i].size) in = true;
  if (!in) { problem("SHARED OUT OF BOUNDS " + kshort(), where(c, pc)); if (a + n > b->shared.size()) abort(); }
  if (c->tracing) tracev.push_back({(uint32_t)c->lin/32, (uint32_t)pc, c->occ[pc]++, (uint8_t)(c->lin%32), (uint8_t)n, 1, (uint8_t)rw, a});
  Sh &s = b->sh[a/4]; uint32_t th = c->lin + 1, e = c->epoch + 1;
  if (rw == 0 && !b->shinit[a/4]) problem("UNINITIALISED SHARED READ " + kshort() + " pc " + std::to_string(pc), where(c, pc));
  if (rw) b->shinit[a/4] = 1;
  if (rw == 0) { if (s.we == e && s.wt != th) problem("shared race read/write " + kshort() + " pc " + std::to_string(pc), where(c, pc)); if (s.re == e && s.rt != th) s.rt = 0xffffffff; else s.rt = th; s.re = e; }
  else { if (s.we == e && s.wt != th) problem("shared race write/write " + kshort() + " pc " + std::to_string(pc), where(c, pc)); if (s.re == e && s.rt != th) problem("shared race write after read " + kshort() + " pc " + std::to_string(pc), where(c, pc)); s.wt = th; s.we = e; }
}
static void emu_bar(Ctx *c, int pc) { c->state = ATBAR; c->barpc = pc; emu_switch(&c->sp, sched_sp); }
static int interleave_ = -1;
static void emu_yield(Ctx *c, int) { if (interleave_ > 1) { c->state = READY; emu_switch(&c->sp, sched_sp); } }
static float emu_noise(Ctx *, float x) { return x * (1.0f + ((int)(rng() % 2001) - 1000) * 1e-3f * 2.4e-7f); }   // up to 2 ulp
static const Api api = { check_global, check_shared, emu_bar, emu_yield, emu_noise };
static void fiber_main() { Ctx *c = running_ctx; K->body(c); c->state = DONE; emu_switch(&c->sp, sched_sp); abort(); }
static std::vector<void*> stacks; static const size_t STK = 96 << 10;
static void *get_stack() { if (stacks.empty()) { char *m = (char*)mmap(0, STK*64, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0); for (int i = 0; i < 64; i++) stacks.push_back(m + i*STK); } void *s = stacks.back(); stacks.pop_back(); return s; }
static void analyse() {
  std::map<std::tuple<uint32_t,uint32_t,uint32_t>, std::vector<TraceRec*>> groups;
  for (auto &r : tracev) groups[{r.warp, r.pc, r.occ}].push_back(&r);
  for (auto &g : groups) { auto &v = g.second; int pc = v[0]->pc; auto key = std::make_pair(kshort(), pc); pcline[key] = K->lines[pc];
    if (v[0]->space == 0) { std::set<uint64_t> sec, words; for (auto r : v) { for (uint64_t a = r->addr/32; a <= (r->addr + r->size - 1)/32; a++) sec.insert(a); words.insert(r->addr/r->size); }
      PcStat &s = gstat[key]; s.req++; s.lanes += v.size(); s.sectors += sec.size(); s.ideal += (words.size()*v[0]->size + 31)/32; }
    else { std::map<int, std::set<uint64_t>> banks; for (auto r : v) banks[(r->addr/4)%32].insert(r->addr/4); size_t m = 0; for (auto &b : banks) m = std::max(m, b.second.size()); PcStat &s = sstat[key]; s.req++; s.lanes += v.size(); s.waves += m; } }
  tracev.clear();
}
static long total_threads, total_blocks;
static void run_kernel(const KernelInfo *k, const std::vector<char> &params, const int *g, const int *b) {
  K = k; launch_no++; static long check = envl("FAKE_CHECK", 0), seed = envl("FAKE_SEED", 1), apx = envl("FAKE_APPROX", 0), trace_each = envl("FAKE_TRACE_BLOCKS", 0);
  if (interleave_ < 0) interleave_ = envl("FAKE_INTERLEAVE", 1);
  unsigned csr = _mm_getcsr(); _mm_setcsr(csr | 0x8040);   // FTZ, DAZ
  int nt = b[0]*b[1]*b[2]; long nb = (long)g[0]*g[1]*g[2]; total_threads += nb*nt; total_blocks += nb;
  std::vector<long> order(nb); for (long i = 0; i < nb; i++) order[i] = i; if (seed) std::shuffle(order.begin(), order.end(), rng);
  std::vector<std::unique_ptr<Block>> res; long next = 0; static std::vector<std::unique_ptr<Block>> spare; static std::vector<uint32_t> occs;
  auto start = [&](long id) {
    auto B = std::make_unique<Block>(); B->id = id; B->bx = id % g[0]; B->by = id / g[0] % g[1]; B->bz = id / g[0] / g[1];
    B->shared.assign(k->shared_total, 0); for (size_t i = 0; i + 4 <= B->shared.size(); i += 4) *(uint32_t*)&B->shared[i] = 0x7fbadbad;
    if (check) { B->sh.assign(k->shared_total/4 + 1, Sh{}); B->shinit.assign(k->shared_total/4 + 1, 0); }
    B->t.resize(nt); B->ready = nt; B->atbar = B->done = 0; B->epoch = 0; B->traced = check && trace_each && (id % trace_each == trace_each/2 || nb < trace_each && id == nb/2);
    if (B->traced) occs.assign((size_t)nt*k->nlines, 0);
    for (int i = 0; i < nt; i++) { Ctx &c = B->t[i]; memset(&c, 0, sizeof c); c.tx = i % b[0]; c.ty = i / b[0] % b[1]; c.tz = i / b[0] / b[1]; c.bx = B->bx; c.by = B->by; c.bz = B->bz; c.ntx = b[0]; c.nty = b[1]; c.ntz = b[2]; c.nbx = g[0]; c.nby = g[1]; c.nbz = g[2];
      c.params = params.data(); c.shared = B->shared.data(); c.api = &api; c.checking = check; c.approx = apx; c.lin = i; c.block = B.get(); c.state = READY; c.tracing = B->traced; c.occ = B->traced ? &occs[(size_t)i*k->nlines] : nullptr; c.barpc = -1;
      c.stack = get_stack(); uint64_t *sp = (uint64_t*)((char*)c.stack + STK - 64); *--sp = 0; *--sp = (uint64_t)fiber_main; for (int q = 0; q < 6; q++) *--sp = 0; c.sp = sp; }
    res.push_back(std::move(B)); };
  std::vector<int> perm(nt);
  while (next < nb || !res.empty()) {
    while ((long)res.size() < interleave_ && next < nb) start(order[next++]);
    size_t pick = res.size() > 1 ? rng() % res.size() : 0; Block &B = *res[pick];
    // resume each ready thread of the block once, in random order
    int m = 0; for (int i = 0; i < nt; i++) if (B.t[i].state == READY) perm[m++] = i;
    if (seed) std::shuffle(perm.begin(), perm.begin() + m, rng);
    for (int q = 0; q < m; q++) { Ctx &c = B.t[perm[q]]; c.epoch = B.epoch; running_ctx = &c; emu_switch(&sched_sp, c.sp); }
    int ready = 0, at = 0, done = 0, pc = -1; bool mixed = false;
    for (auto &c : B.t) { if (c.state == READY) ready++; else if (c.state == DONE) done++; else { at++; if (pc >= 0 && pc != c.barpc) mixed = true; pc = c.barpc; } }
    if (!ready && at) { if (done) problem("BARRIER AFTER SOME THREADS ENDED " + kshort(), k->lines[pc]); if (mixed) problem("DIVERGENT BARRIER " + kshort(), k->lines[pc]);
      B.epoch++; for (auto &c : B.t) if (c.state == ATBAR) c.state = READY; }
    if (done == nt) { if (B.traced) analyse(); for (auto &c : B.t) stacks.push_back(c.stack); res.erase(res.begin() + pick); }
  }
  _mm_setcsr(csr);
}

// ---------------------------------------------------------------- modules
struct Module { const KernelInfo *info; std::string so; };
struct Kern { Module *m; };
static std::map<std::string, long> launches;
API uint64_t fake_hash(const void *p, size_t n) { uint64_t h = 1469598103934665603ull; for (size_t i = 0; i < n; i++) { h ^= ((uint8_t*)p)[i]; h *= 1099511628211ull; } return h; }
static size_t elf_size(const uint8_t *e) { uint64_t shoff = *(uint64_t*)(e + 40), phoff = *(uint64_t*)(e + 32); uint16_t shentsize = *(uint16_t*)(e + 58), shnum = *(uint16_t*)(e + 60), phes = *(uint16_t*)(e+54), phn = *(uint16_t*)(e+56); return std::max(shoff + (uint64_t)shentsize*shnum, phoff + (uint64_t)phes*phn); }
API R cuLibraryLoadData(void **lib, const void *code, void*, void**, unsigned, void*, void**, unsigned) { NEEDCTX("cuLibraryLoadData");
  long drv = envl("FAKE_DRIVER", 13000); if (drv < 13000) return envl("FAKE_LOAD_ERROR", UNSUPPORTED_PTX);
  const uint8_t *e = (const uint8_t*)code; if (memcmp(e, "\x7f" "ELF", 4)) { fprintf(stderr, "[fake] not a cubin\n"); return INVALID_IMAGE; }
  char path[500]; snprintf(path, sizeof path, "%s/%016lx.so", getenv("FAKE_MODULES"), fake_hash(code, elf_size(e)));
  void *h = dlopen(path, RTLD_NOW); if (!h) { fprintf(stderr, "[fake] %s\n", dlerror()); return NO_BINARY; }
  *lib = new Module{(const KernelInfo*)dlsym(h, "kernel_info"), path}; return OK; }
API R cuLibraryUnload(void *) { NEEDCTX("cuLibraryUnload"); return OK; }
API R cuLibraryGetKernel(void **k, void *lib, const char *name) { NEEDCTX("cuLibraryGetKernel"); Module *m = (Module*)lib; if (strcmp(name, m->info->name)) { fprintf(stderr, "[fake] kernel %s not in module\n", name); return NOT_FOUND; } *k = new Kern{m}; return OK; }
API R cuKernelGetFunction(void **f, void *k) { NEEDCTX("cuKernelGetFunction"); *f = k; return OK; }
API R cuKernelGetAttribute(int *v, int attr, void *, int) { NEEDCTX("cuKernelGetAttribute"); static const int t[] = {1024, 0, 0, 0, 128, 90, 90}; *v = attr < 7 ? t[attr] : 0; return OK; }
API R cuKernelGetParamInfo(void *k, size_t i, size_t *off, size_t *size) { ENTER("cuKernelGetParamInfo"); const KernelInfo *q = ((Kern*)k)->m->info; if ((int)i >= q->nparams) return INVALID_VALUE; *off = q->poffs[2*i]; if (size) *size = q->poffs[2*i+1]; return OK; }
API R cuFuncGetAttribute(int *v, int attr, void *) { NEEDCTX("cuFuncGetAttribute"); static const int t[] = {1024, 0, 0, 0, 128, 90, 90}; *v = attr < 7 ? t[attr] : 0; return OK; }

// ---------------------------------------------------------------- streams
struct Stream; struct Event { Stream *s = nullptr; bool done = true; uint64_t seq = 0; };
struct Stream { std::deque<std::function<void()>> ops; bool blocking = true; int dev = 0; };
static long events;
static std::set<Stream*> streams; static Stream null_stream;
static bool lazy() { static int l = envl("FAKE_LAZY", 1); return l; }
static long dry() { static int l = envl("FAKE_DRY", 0); return l; }
static void flush(Stream *s) { while (!s->ops.empty()) { auto f = std::move(s->ops.front()); s->ops.pop_front(); f(); } }
static void flush_all() { std::vector<Stream*> v(streams.begin(), streams.end()); if (envl("FAKE_SEED", 1)) std::shuffle(v.begin(), v.end(), rng); for (auto s : v) flush(s); flush(&null_stream); }
static Stream *S(void *h) { return (uint64_t)h <= 2 ? &null_stream : (Stream*)h; }
static R put(void *h, std::function<void()> f) { Stream *s = S(h); if (s != &null_stream && !streams.count(s)) return INVALID_HANDLE; if (s == &null_stream) { flush_all(); f(); return OK; } s->ops.push_back(std::move(f)); if (!lazy()) flush(s); return OK; }
API R cuStreamCreate(void **s, unsigned flags) { NEEDCTX("cuStreamCreate"); Stream *n = new Stream; n->blocking = !(flags & 1); n->dev = cur()->dev; streams.insert(n); *s = n; return OK; }
API R cuStreamCreateWithPriority(void **s, unsigned f, int) { return cuStreamCreate(s, f); }
API R cuStreamDestroy_v2(void *s) { NEEDCTX("cuStreamDestroy"); if (!streams.count((Stream*)s)) return INVALID_HANDLE; flush((Stream*)s); streams.erase((Stream*)s); return OK; }
API R cuStreamSynchronize(void *s) { NEEDCTX("cuStreamSynchronize"); if (S(s) == &null_stream) flush_all(); else flush(S(s)); return OK; }
API R cuStreamQuery(void *s) { NEEDCTX("cuStreamQuery"); flush(S(s)); return OK; }
API R cuStreamGetCtx(void *, void **c) { NEEDCTX("cuStreamGetCtx"); *c = cur(); return OK; }
API R cuStreamGetCtx_v2(void *, void **c, void **g) { NEEDCTX("cuStreamGetCtx_v2"); *c = cur(); *g = 0; return OK; }
API R cuStreamGetDevice(void *, int *d) { NEEDCTX("cuStreamGetDevice"); *d = cur()->dev; return OK; }
API R cuStreamGetFlags(void *s, unsigned *f) { NEEDCTX("cuStreamGetFlags"); *f = 0; return OK; }
API R cuStreamGetPriority(void *s, int *f) { NEEDCTX("cuStreamGetPriority"); *f = 0; return OK; }
API R cuStreamIsCapturing(void *s, int *f) { NEEDCTX("cuStreamIsCapturing"); *f = 0; return OK; }
API R cuCtxSynchronize() { NEEDCTX("cuCtxSynchronize"); flush_all(); return OK; }
API R cuEventCreate(void **e, unsigned) { NEEDCTX("cuEventCreate"); *e = new Event; events++; return OK; }
API R cuEventDestroy_v2(void *e) { NEEDCTX("cuEventDestroy"); events--; return OK; }
API R cuEventRecord(void *e, void *s) { NEEDCTX("cuEventRecord"); Event *v = (Event*)e; v->s = S(s); v->done = false; uint64_t q = ++v->seq; return put(s, [v, q]{ if (v->seq == q) v->done = true; }); }
API R cuEventRecordWithFlags(void *e, void *s, unsigned) { return cuEventRecord(e, s); }
API R cuEventSynchronize(void *e) { NEEDCTX("cuEventSynchronize"); Event *v = (Event*)e; while (!v->done && v->s && !v->s->ops.empty()) { auto f = std::move(v->s->ops.front()); v->s->ops.pop_front(); f(); } return OK; }
API R cuEventQuery(void *e) { NEEDCTX("cuEventQuery"); Event *v = (Event*)e; if (!v->done && v->s && !v->s->ops.empty()) { auto f = std::move(v->s->ops.front()); v->s->ops.pop_front(); f(); } return v->done ? OK : NOT_READY; }
API R cuEventElapsedTime(float *ms, void *, void *) { NEEDCTX("cuEventElapsedTime"); *ms = 1; return OK; }
API R cuEventElapsedTime_v2(float *ms, void *, void *) { NEEDCTX("cuEventElapsedTime"); *ms = 1; return OK; }
API R cuStreamWaitEvent(void *s, void *e, unsigned) { NEEDCTX("cuStreamWaitEvent"); return cuEventSynchronize(e); }
static void mark(uint64_t d, size_t n) { if (in_arena(d)) memset(initmap + (d - (uint64_t)arena)/4, 1, (n + 3)/4); }
static bool ok_dev(uint64_t d, size_t n, const char *what) { Alloc *a = find(d); if ((!a || d + n > a->base + a->size) && !in_host(d, n)) { problem(std::string("copy out of bounds ") + what, std::to_string(n)); return false; } return true; }
static std::map<std::string,long> copies, bytes;
static void count(const char *k, const void *host, size_t n) { std::string s = k; if (host) s += in_host((uint64_t)host, n) ? " pinned" : " pageable"; copies[s]++; bytes[s] += n; }
API R cuMemcpyHtoD_v2(uint64_t d, const void *h, size_t n) { NEEDCTX("cuMemcpyHtoD"); count("HtoD sync", h, n); flush_all(); if (!ok_dev(d, n, "HtoD")) return INVALID_VALUE; memcpy((void*)d, h, n); mark(d, n); return OK; }
API R cuMemcpyDtoH_v2(void *h, uint64_t d, size_t n) { NEEDCTX("cuMemcpyDtoH"); count("DtoH sync", h, n); flush_all(); if (!ok_dev(d, n, "DtoH")) return INVALID_VALUE; memcpy(h, (void*)d, n); return OK; }
API R cuMemcpyDtoD_v2(uint64_t d, uint64_t s, size_t n) { NEEDCTX("cuMemcpyDtoD"); count("DtoD sync", 0, n); flush_all(); memcpy((void*)d, (void*)s, n); mark(d, n); return OK; }
API R cuMemcpyHtoDAsync_v2(uint64_t d, const void *h, size_t n, void *s) { NEEDCTX("cuMemcpyHtoDAsync"); count("HtoD async", h, n); if (!ok_dev(d, n, "HtoD")) return INVALID_VALUE;
  if (!in_host((uint64_t)h, n)) { auto tmp = std::make_shared<std::vector<char>>((const char*)h, (const char*)h + n); return put(s, [=]{ memcpy((void*)d, tmp->data(), n); mark(d, n); }); }   // pageable: staged at the call
  return put(s, [=]{ memcpy((void*)d, h, n); mark(d, n); }); }
API R cuMemcpyDtoHAsync_v2(void *h, uint64_t d, size_t n, void *s) { NEEDCTX("cuMemcpyDtoHAsync"); count("DtoH async", h, n); if (!ok_dev(d, n, "DtoH")) return INVALID_VALUE; if (!in_host((uint64_t)h, n) && !envl("FAKE_PAGEABLE_ASYNC", 0)) { flush(S(s)); memcpy(h, (void*)d, n); return OK; } return put(s, [=]{ if (envl("FAKE_CHECK", 0)) for (size_t i = 0; i < n/4; i++) if (in_arena(d) && !initmap[(d - (uint64_t)arena)/4 + i]) { problem("copy to host of uninitialised memory", std::to_string(i)); break; } memcpy(h, (void*)d, n); }); }
API R cuMemcpyDtoDAsync_v2(uint64_t d, uint64_t q, size_t n, void *s) { NEEDCTX("cuMemcpyDtoDAsync"); return put(s, [=]{ memcpy((void*)d, (void*)q, n); mark(d, n); }); }
API R cuMemsetD8_v2(uint64_t d, unsigned char b, size_t n) { NEEDCTX("cuMemsetD8"); flush_all(); memset((void*)d, b, n); mark(d, n); return OK; }
API R cuMemsetD8Async(uint64_t d, unsigned char b, size_t n, void *s) { NEEDCTX("cuMemsetD8Async"); return put(s, [=]{ memset((void*)d, b, n); mark(d, n); }); }
static R launch(void *f, const int *g, const int *b, unsigned smem, void *s, void **params) {
  const KernelInfo *k = ((Kern*)f)->m->info; std::vector<char> p(k->psize + 16); for (int i = 0; i < k->nparams; i++) memcpy(&p[k->poffs[2*i]], params[i], k->poffs[2*i+1]);
  if (g[0] < 1 || g[1] < 1 || g[2] < 1 || g[1] > 65535 || g[2] > 65535 || b[0]*b[1]*b[2] > 1024 || b[0]*b[1]*b[2] < 1 || b[2] > 64) { problem("INVALID LAUNCH CONFIGURATION", k->name); return INVALID_VALUE; }
  const KernelInfo *old = K; K = k; launches[kshort()]++; K = old;
  if (dry()) { static long stop = envl("FAKE_DRY_STOP", 1000); if (k->nparams == 64) { auto P = [&](int i) { return &p[k->poffs[2*i]]; }; if (*(int*)P(54) >= stop) **(int**)P(49) = *(int*)P(52); } return OK; }
  int gg[3] = {g[0],g[1],g[2]}, bb[3] = {b[0],b[1],b[2]};
  int dv = S(s)->dev; if (dv != cur()->dev) { problem("STREAM OF ANOTHER CONTEXT", k->name); return INVALID_HANDLE; } return put(s, [=]{ curdev = dv; run_kernel(k, p, gg, bb); }); }
API R cuLaunchKernel(void *f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned sm, void *s, void **params, void **) { NEEDCTX("cuLaunchKernel"); int g[3] = {(int)gx,(int)gy,(int)gz}, b[3] = {(int)bx,(int)by,(int)bz}; return launch(f, g, b, sm, s, params); }
struct LC { unsigned gx, gy, gz, bx, by, bz, smem; void *stream; void *attrs; unsigned nattr; };
API R cuLaunchKernelEx(const LC *c, void *f, void **params, void **) { NEEDCTX("cuLaunchKernelEx"); int g[3] = {(int)c->gx,(int)c->gy,(int)c->gz}, b[3] = {(int)c->bx,(int)c->by,(int)c->bz}; return launch(f, g, b, c->smem, c->stream, params); }

// ---------------------------------------------------------------- init, devices, contexts
static void report();
API R cuInit(unsigned) { LOCK; static bool once = false; if (!once) { once = true; atexit(report); } long e = envl("FAKE_INIT_ERROR", 0); if (e) return e; inited = getpid(); arena_init(); for (int i = 0; i < 8; i++) contexts[i].dev = i; return OK; }
API R cuDriverGetVersion(int *v) { *v = envl("FAKE_DRIVER", 13000); return OK; }
API R cuDeviceGetCount(int *n) { ENTER("cuDeviceGetCount"); *n = ndev(); return OK; }
API R cuDeviceGet(int *d, int i) { ENTER("cuDeviceGet"); if (i < 0 || i >= ndev()) return INVALID_DEVICE; *d = i; return OK; }
API R cuDeviceGetName(char *n, int len, int) { ENTER("cuDeviceGetName"); snprintf(n, len, "Emulated H200"); return OK; }
API R cuDeviceGetUuid_v2(void *u, int d) { ENTER("cuDeviceGetUuid"); memset(u, d, 16); return OK; }
API R cuDeviceGetUuid(void *u, int d) { return cuDeviceGetUuid_v2(u, d); }
API R cuDeviceTotalMem_v2(size_t *n, int) { ENTER("cuDeviceTotalMem"); *n = total_mem(); return OK; }
API R cuDeviceGetAttribute(int *v, int a, int d) { ENTER("cuDeviceGetAttribute"); long cc = envl("FAKE_CC", 90);
  static std::map<int,int> t = {{1,1024},{2,1024},{3,1024},{4,64},{5,2147483647},{6,65535},{7,65535},{8,49152},{10,32},{13,1980000},{16,132},{19,1},{41,1},{81,233472},{82,65536},{83,1},{95,1},{97,232448},{106,32},{39,2048}};
  if (a == 75) { *v = cc/10; return OK; } if (a == 76) { *v = cc%10; return OK; } auto it = t.find(a); *v = it == t.end() ? 0 : it->second; return OK; }
API R cuDevicePrimaryCtxRetain(void **c, int d) { ENTER("cuDevicePrimaryCtxRetain"); if (d >= ndev()) return INVALID_DEVICE; contexts[d].refs++; *c = &contexts[d]; return OK; }
API R cuDevicePrimaryCtxRelease_v2(int d) { ENTER("cuDevicePrimaryCtxRelease"); contexts[d].refs--; return OK; }
API R cuDevicePrimaryCtxReset_v2(int) { ENTER("cuDevicePrimaryCtxReset"); return OK; }
API R cuDevicePrimaryCtxGetState(int d, unsigned *f, int *a) { ENTER("cuDevicePrimaryCtxGetState"); *f = 0; *a = contexts[d].refs > 0; return OK; }
API R cuCtxPushCurrent_v2(void *c) { ENTER("cuCtxPushCurrent"); stack_.push_back((Context*)c); return OK; }
API R cuCtxPopCurrent_v2(void **c) { ENTER("cuCtxPopCurrent"); if (!cur()) return INVALID_CONTEXT; if (c) *c = cur(); stack_.pop_back(); return OK; }
API R cuCtxSetCurrent(void *c) { ENTER("cuCtxSetCurrent"); if (!stack_.empty()) stack_.pop_back(); if (c) stack_.push_back((Context*)c); return OK; }
API R cuCtxGetCurrent(void **c) { ENTER("cuCtxGetCurrent"); *c = cur(); return OK; }
API R cuCtxGetDevice(int *d) { NEEDCTX("cuCtxGetDevice"); *d = cur()->dev; return OK; }
API R cuCtxGetDevice_v2(int *d, void *c) { ENTER("cuCtxGetDevice_v2"); Context *x = c ? (Context*)c : cur(); if (!x) return INVALID_CONTEXT; *d = x->dev; return OK; }
API R cuCtxGetApiVersion(void *, unsigned *v) { ENTER("cuCtxGetApiVersion"); *v = 3020; return OK; }
API R cuCtxGetId(void *, unsigned long long *v) { ENTER("cuCtxGetId"); *v = 1; return OK; }
static const char *ename(int e) { switch (e) { case 0: return "CUDA_SUCCESS"; case 1: return "CUDA_ERROR_INVALID_VALUE"; case 2: return "CUDA_ERROR_OUT_OF_MEMORY"; case 3: return "CUDA_ERROR_NOT_INITIALIZED"; case 100: return "CUDA_ERROR_NO_DEVICE"; case 201: return "CUDA_ERROR_INVALID_CONTEXT"; case 222: return "CUDA_ERROR_UNSUPPORTED_PTX_VERSION"; default: return "CUDA_ERROR_OTHER"; } }
API R cuGetErrorName(int e, const char **s) { *s = ename(e); return OK; }
API R cuGetErrorString(int e, const char **s) { *s = ename(e); return OK; }
static std::map<std::string,long> missing;
API R cuGetProcAddress_v2(const char *sym, void **pfn, int, uint64_t, int *st) {
  void *self = nullptr; Dl_info di; dladdr((void*)cuInit, &di); self = dlopen(di.dli_fname, RTLD_NOW|RTLD_NOLOAD);
  std::string n = sym; void *f = nullptr; bool plain = n == "cuCtxGetDevice" || n == "cuStreamGetCtx" || n == "cuEventElapsedTime"; for (auto s : {plain ? "" : "_v2", ""}) if ((f = dlsym(self, (n + s).c_str()))) break;
  *pfn = f; if (!f) missing[n]++; if (st) *st = f ? 0 : 1; return f ? OK : NOT_FOUND; }
API R cuGetProcAddress(const char *sym, void **pfn, int v, uint64_t f) { return cuGetProcAddress_v2(sym, pfn, v, f, nullptr); }
// What a program holds at present, for tests to ask: 0 device allocations, 1 pinned ones, 2 streams, 3 events
API long fake_held(int what) { LOCK; return what == 0 ? allocs.size() : what == 1 ? hosts.size() : what == 2 ? streams.size() : events; }
static void report() {
  const char *out = getenv("FAKE_REPORT"); if (!out || inited != getpid()) return; FILE *f = fopen(out, "a"); if (!f) return;
  fprintf(f, "== pid %d: launches %ld, blocks %ld, threads %ld; device memory: left %zu allocations, peak %.1f MB; pinned: left %zu, peak %.1f MB; left %zu streams, %ld events\n", getpid(), launch_no, total_blocks, total_threads, allocs.size(), peak/1e6, hosts.size(), hostpeak/1e6, streams.size(), events);
  for (auto &p : launches) fprintf(f, "launch %-12s %ld\n", p.first.c_str(), p.second);
  for (auto &p : copies) fprintf(f, "copy %-22s %ld times, %ld bytes\n", p.first.c_str(), p.second, bytes[p.first]);
  for (auto &p : noctxs) fprintf(f, "NO CONTEXT %s %ld\n", p.first.c_str(), p.second);
  for (auto &p : problems) fprintf(f, "PROBLEM %s: %ld times; first: %s\n", p.first.c_str(), p.second, firstp[p.first].c_str());
  for (auto &p : gstat) fprintf(f, "global %-10s pc %4d requests %6ld lanes %.1f sectors/request %.2f ideal %.2f | %s\n", p.first.first.c_str(), p.first.second, p.second.req, (double)p.second.lanes/p.second.req, (double)p.second.sectors/p.second.req, (double)p.second.ideal/p.second.req, pcline[p.first]);
  for (auto &p : sstat) fprintf(f, "shared %-10s pc %4d requests %6ld lanes %.1f wavefronts/request %.3f | %s\n", p.first.first.c_str(), p.first.second, p.second.req, (double)p.second.lanes/p.second.req, (double)p.second.waves/p.second.req, pcline[p.first]);
  if (envl("FAKE_CALLS", 0)) for (auto &p : calls) fprintf(f, "call %-28s %ld\n", p.first.c_str(), p.second);
  fclose(f); }
