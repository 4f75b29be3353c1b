/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The few bpf(2) commands that capture needs, without libbpf. The C compiler reads this file and so does cffi
 * (build_bpf.py). Every function returns 0, or a new descriptor (close-on-exec, the caller's to close), or a
 * negative errno; none keeps state or allocates.
 */

/* What BPF_OBJ_GET_INFO_BY_FD says of a map. */
struct map_info {
    unsigned int id, type, key_size, value_size, max_entries, flags;
};

/* ... and of a link: `target` is a cgroup id or a netns inode, 0 once the kernel has detached it. */
struct link_info {
    unsigned int id, program;
    unsigned long long target;
};

int bpf_map_info(int map, struct map_info *info);
int bpf_link_info(int link, struct link_info *info);

/* `value` has value_size bytes; of a per-CPU map, those rounded up to 8, times the possible CPUs. */
int bpf_map_read(int map, const void *key, void *value);
int bpf_map_write(int map, const void *key, const void *value, unsigned long long flags);
int bpf_map_remove(int map, const void *key);

/* The key after `key` in the map's own order; key NULL: the first. -ENOENT after the last. */
int bpf_map_next(int map, const void *key, void *next);

int bpf_pin(int fd, const char *path);
int bpf_open(const char *path);

/* `code`: `count` instructions with map descriptors in place. `log` takes the verifier's words when it refuses. */
int bpf_load(unsigned int type, unsigned int attach, const void *code, unsigned int count, const char *name,
             char *log, unsigned int log_size);
int bpf_program_id(int program);

/* `target`: a cgroup directory or a network namespace. */
int bpf_attach(int program, int target, unsigned int attach);
int bpf_swap(int link, int program);

/* Ends a link at once, whoever still holds it; removing the last pin does so only after a grace period. */
int bpf_detach(int link);

/* Of a sockmap or sockhash: the program that sockets have which enter it from now on; its id, 0 for none. */
int bpf_attach_map(int program, int map, unsigned int attach);
int bpf_map_program(int map, unsigned int attach);

/* Ids of the programs that run for processes in a cgroup, inherited ones too. Returns how many, at most `room`. */
int bpf_effective(int cgroup, unsigned int attach, unsigned int *ids, unsigned int room);

/* Mounts a BPF file system, readable by root only. */
int bpf_mount(const char *path);
