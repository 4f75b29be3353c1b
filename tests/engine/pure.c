/* Doors to the engine's pure files for tests/engine/test_pure.py. */
#include "timer.h"

struct probe {
    struct timer timer;
    uint64_t *fired_ns;
    const uint64_t *now_ns;
};

static void note(void *owner, struct timer *timer)
{
    struct probe *probe = (struct probe *)timer;
    (void)owner;
    *probe->fired_ns = *probe->now_ns;
}

/* Starts `count` timers at `start_ns`, stops every `stop_every`th (0: none), then advances the clock step by step. */
int wheel_run(uint64_t start_ns, const uint64_t *due_ns, uint64_t *fired_ns, int count, int stop_every,
              const uint64_t *steps_ns, int step_count);
int wheel_run(uint64_t start_ns, const uint64_t *due_ns, uint64_t *fired_ns, int count, int stop_every,
              const uint64_t *steps_ns, int step_count)
{
    static struct wheel wheel;
    struct probe probes[count];
    uint64_t now_ns = start_ns;
    int early_wakes = 0;
    wheel_init(&wheel, start_ns);
    for (int i = 0; i < count; i++) {
        probes[i] = (struct probe){.fired_ns = &fired_ns[i], .now_ns = &now_ns};
        timer_init(&probes[i].timer, note);
        timer_start(&wheel, &probes[i].timer, due_ns[i]);
    }
    for (int i = 0; stop_every && i < count; i += stop_every)
        timer_stop(&probes[i].timer);
    for (int i = 0; i < step_count; i++) {
        uint64_t next_ns = wheel_next_ns(&wheel);
        now_ns = steps_ns[i];
        int before = 0, after = 0;
        for (int k = 0; k < count; k++)
            before += fired_ns[k] != 0;
        wheel_advance(&wheel, now_ns, NULL);
        for (int k = 0; k < count; k++)
            after += fired_ns[k] != 0;
        early_wakes += after > before && now_ns < next_ns; /* it fired before it said it would have to */
    }
    return early_wakes;
}
