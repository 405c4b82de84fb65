#include "races.hpp"

#include "engine.hpp"
#include "settings.hpp"

#include <execinfo.h>
#include <unistd.h>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <unordered_map>

namespace emulation {
namespace {

struct Access {
    unsigned launch = 0;  // 0: none
    unsigned block = 0, thread = 0;
    unsigned barriers = 0, warp_barriers = 0, meetings = 0;  // passed before the access
    const void* team = nullptr;
    void* place = nullptr;  // the return address of the hook
};

// The last store to 4 bytes, and the last loads of two warps.
struct Word {
    Access store;
    std::array<Access, 2> loads;
};

enum class Memory { none, shared, global };

struct Detector {
    std::unordered_map<std::uintptr_t, Word> words;  // of the present launch
    // By the number of a block: the access of another block to its shared memory after the most meetings.
    std::unordered_map<unsigned, Access> from_outside;
    unsigned launch = 0;
    long long preempt = 0;  // SPIKEFLOSS_EMULATION_PREEMPT
    bool busy = false;      // in the detector itself
    Races found;
    std::map<std::pair<void*, void*>, bool> reported;  // pairs of places
    unsigned long long random = 0x9E3779B97F4A7C15ull;

    ~Detector() {
        if (found.races == 0 && found.plain_loads == 0) return;
        std::fprintf(stderr, "race detector: %lld races and %lld plain loads in %lld accesses\n", found.races,
                     found.plain_loads, found.accesses);
        _exit(1);
    }
};
Detector& detector() {
    static Detector d;
    return d;
}

bool ordered(const Access& a, const Access& b) {
    if (a.launch != b.launch) return true;  // launches of one stream
    if (a.block == b.block)
        return a.thread == b.thread || a.barriers != b.barriers ||
               (a.thread / 32 == b.thread / 32 && a.warp_barriers != b.warp_barriers);
    // A block names its team at its first meeting.
    return (a.team == b.team || !a.team || !b.team) && a.meetings != b.meetings;
}

void report(const char* what, const Access& a, const Access& b, Memory memory) {
    if (detector().reported[{a.place, b.place}]) return;
    detector().reported[{a.place, b.place}] = true;
    void* places[2] = {a.place, b.place};
    char** const names = backtrace_symbols(places, 2);
    std::fprintf(stderr,
                 "RACE in %s: %s, %s memory: block %u thread %u at %s, then block %u thread %u at %s "
                 "(addr2line -e PROGRAM names the lines)\n",
                 kernel_name(Engine::get().launch()->kernel).c_str(), what,
                 memory == Memory::shared ? "shared" : "global", a.block, a.thread, names ? names[0] : "?", b.block,
                 b.thread, names ? names[1] : "?");
    std::free(names);
}

unsigned number_of(const Block& block) {
    const dim3 grid = Engine::get().launch()->grid;
    return block.id.x + grid.x * (block.id.y + grid.y * block.id.z);
}

// Whether the running thread lets others run here: at random.
bool preempts(Detector& d) {
    if (d.preempt <= 0) return false;
    d.random ^= d.random << 13;
    d.random ^= d.random >> 7;
    d.random ^= d.random << 17;
    return d.random % static_cast<unsigned long long>(d.preempt) == 0;
}

void check(Detector& d, std::uintptr_t key, const Access& now, bool store, Memory memory, bool past_cache) {
    const auto fault = [&](const char* what, const Access& before) {
        ++d.found.races;
        report(what, before, now, memory);
    };
    Word& word = d.words[key];
    if (!ordered(word.store, now)) fault(store ? "store after store" : "load after store", word.store);
    if (store) {
        for (const Access& load : word.loads)
            if (!ordered(load, now)) fault("store after load", load);
        word.store = now;
        return;
    }
    if (memory == Memory::global && !past_cache && word.store.launch == d.launch && word.store.block != now.block) {
        ++d.found.plain_loads;
        report("plain load of what another block stored", word.store, now, memory);
    }
    const Access& last = word.loads[0];
    if (last.launch != now.launch || last.block != now.block || last.thread / 32 != now.thread / 32)
        word.loads[1] = last;
    word.loads[0] = now;
}

// A block has ended: were the accesses of others to its shared memory before the last meeting?
void judge_end(const Block& block) {
    Detector& d = detector();
    const auto found = d.from_outside.find(number_of(block));
    if (found == d.from_outside.end() || found->second.launch != Engine::get().launches() ||
        found->second.meetings != block.meetings)
        return;
    ++d.found.races;
    const Access now{d.launch, number_of(block), 0, block.barriers, 0, block.meetings, block.team, nullptr};
    report("access to the memory of a block that may have ended", found->second, now, Memory::shared);
}

void access(void* address, std::size_t bytes, bool store, bool past_cache, void* place) {
    Engine& engine = Engine::get();
    Detector& d = detector();
    Thread* const me = engine.current();
    if (!me || d.busy) return;  // the host
    const Block* const owner = engine.shared_owner(address);
    const Memory memory = owner ? Memory::shared : is_device_range(address, 1) ? Memory::global : Memory::none;
    if (memory == Memory::none) return;  // the thread's own stack, or constants
    if (d.launch != engine.launches()) {
        d.launch = engine.launches();
        d.preempt = setting("SPIKEFLOSS_EMULATION_PREEMPT", 0);
        d.words.clear();
        d.from_outside.clear();
        engine.block_ended = judge_end;
    }
    if (preempts(d)) let_others_run();
    d.busy = true;
    ++d.found.accesses;
    const Block& block = *me->block;
    const Access now{d.launch,       number_of(block), me->index, block.barriers, block.warps[me->index / 32].barriers,
                     block.meetings, block.team,       place};
    if (owner && owner != &block) {
        Access& most = d.from_outside[number_of(*owner)];
        if (most.launch == 0 || most.meetings <= now.meetings) most = now;
    }
    // Blocks that run one after another have their shared memory at the same address.
    const std::uintptr_t of_block = owner ? std::uintptr_t{number_of(*owner) + 1} << 48 : 0;
    const auto first = reinterpret_cast<std::uintptr_t>(address);
    if (bytes < 4)
        check(d, first ^ of_block, now, store, memory, past_cache);
    else
        for (std::uintptr_t at = first & ~std::uintptr_t{3}; at < first + bytes; at += 4)
            check(d, at ^ of_block, now, store, memory, past_cache);
    d.busy = false;
}

}  // namespace

Races races_found() { return detector().found; }

void forget_races() {
    detector().found = {};
    detector().reported.clear();
}

void load_past_cache(const void* address, std::size_t bytes) {
    access(const_cast<void*>(address), bytes, false, true, __builtin_return_address(0));
}

}  // namespace emulation

// The functions that -fsanitize=thread calls. Nothing is linked with the sanitizer's own runtime.
#define SPIKEFLOSS_HOOKS(bytes)                                                                                  \
    void __tsan_read##bytes(void* a) { emulation::access(a, bytes, false, false, __builtin_return_address(0)); } \
    void __tsan_write##bytes(void* a) { emulation::access(a, bytes, true, false, __builtin_return_address(0)); }
#define SPIKEFLOSS_UNALIGNED_HOOKS(bytes)                                       \
    void __tsan_unaligned_read##bytes(void* a) {                                \
        emulation::access(a, bytes, false, false, __builtin_return_address(0)); \
    }                                                                           \
    void __tsan_unaligned_write##bytes(void* a) {                               \
        emulation::access(a, bytes, true, false, __builtin_return_address(0));  \
    }
extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void*, void*) {}
void __tsan_vptr_read(void*) {}
SPIKEFLOSS_HOOKS(1)
SPIKEFLOSS_HOOKS(2)
SPIKEFLOSS_HOOKS(4)
SPIKEFLOSS_HOOKS(8)
SPIKEFLOSS_HOOKS(16)
SPIKEFLOSS_UNALIGNED_HOOKS(2)
SPIKEFLOSS_UNALIGNED_HOOKS(4)
SPIKEFLOSS_UNALIGNED_HOOKS(8)
SPIKEFLOSS_UNALIGNED_HOOKS(16)
void __tsan_read_range(void* a, unsigned long n) { emulation::access(a, n, false, false, __builtin_return_address(0)); }
void __tsan_write_range(void* a, unsigned long n) { emulation::access(a, n, true, false, __builtin_return_address(0)); }
// Atomic operations of the host part of a kernel's file, such as guards of static variables and reference counts.
unsigned char __tsan_atomic8_load(const volatile unsigned char* a, int) { return __atomic_load_n(a, __ATOMIC_SEQ_CST); }
int __tsan_atomic32_load(const volatile int* a, int) { return __atomic_load_n(a, __ATOMIC_SEQ_CST); }
int __tsan_atomic32_fetch_add(volatile int* a, int x, int) { return __atomic_fetch_add(a, x, __ATOMIC_SEQ_CST); }
int __tsan_atomic32_fetch_sub(volatile int* a, int x, int) { return __atomic_fetch_sub(a, x, __ATOMIC_SEQ_CST); }
}
