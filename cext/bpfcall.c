/* SPDX-License-Identifier: Apache-2.0 */
/* See bpfcall.h. Source: bpf(2) and linux/bpf.h of 6.1. */
#include "bpfcall.h"

#include <errno.h>
#include <linux/bpf.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

static int call(int command, union bpf_attr *attr)
{
    long result;
    do /* loading a program is interrupted by signals */
        result = syscall(SYS_bpf, command, attr, sizeof *attr);
    while (result < 0 && errno == EAGAIN && command == BPF_PROG_LOAD);
    return result < 0 ? -errno : (int)result;
}

static int element(int command, int map, const void *key, const void *value, unsigned long long flags)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.map_fd = map;
    attr.key = (unsigned long)key;
    attr.value = (unsigned long)value; /* a union with next_key */
    attr.flags = flags;
    return call(command, &attr);
}

int bpf_map_read(int map, const void *key, void *value)
{
    return element(BPF_MAP_LOOKUP_ELEM, map, key, value, 0);
}

int bpf_map_write(int map, const void *key, const void *value, unsigned long long flags)
{
    return element(BPF_MAP_UPDATE_ELEM, map, key, value, flags);
}

int bpf_map_remove(int map, const void *key)
{
    return element(BPF_MAP_DELETE_ELEM, map, key, NULL, 0);
}

int bpf_map_next(int map, const void *key, void *next)
{
    return element(BPF_MAP_GET_NEXT_KEY, map, key, next, 0);
}

static int info(int fd, void *out, unsigned int size)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    memset(out, 0, size);
    attr.info.bpf_fd = fd;
    attr.info.info_len = size;
    attr.info.info = (unsigned long)out;
    return call(BPF_OBJ_GET_INFO_BY_FD, &attr);
}

int bpf_map_info(int map, struct map_info *out)
{
    struct bpf_map_info raw;
    int failed = info(map, &raw, sizeof raw);
    if (failed)
        return failed;
    *out = (struct map_info){raw.id, raw.type, raw.key_size, raw.value_size, raw.max_entries, raw.map_flags};
    return 0;
}

int bpf_link_info(int link, struct link_info *out)
{
    struct bpf_link_info raw;
    int failed = info(link, &raw, sizeof raw);
    if (failed)
        return failed;
    *out = (struct link_info){raw.id, raw.prog_id, 0};
    if (raw.type == BPF_LINK_TYPE_CGROUP)
        out->target = raw.cgroup.cgroup_id;
    else if (raw.type == BPF_LINK_TYPE_NETNS)
        out->target = raw.netns.netns_ino;
    return 0;
}

int bpf_program_id(int program)
{
    struct bpf_prog_info raw;
    int failed = info(program, &raw, sizeof raw);
    return failed ? failed : (int)raw.id;
}

int bpf_pin(int fd, const char *path)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.pathname = (unsigned long)path;
    attr.bpf_fd = fd;
    return call(BPF_OBJ_PIN, &attr);
}

int bpf_open(const char *path)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.pathname = (unsigned long)path;
    return call(BPF_OBJ_GET, &attr);
}

int bpf_load(unsigned int type, unsigned int attach, const void *code, unsigned int count, const char *name,
             char *log, unsigned int log_size)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.prog_type = type;
    attr.expected_attach_type = attach;
    attr.insns = (unsigned long)code;
    attr.insn_cnt = count;
    attr.license = (unsigned long)"GPL";
    strncpy(attr.prog_name, name, sizeof attr.prog_name - 1);
    int program = call(BPF_PROG_LOAD, &attr);
    if (program >= 0 || !log_size)
        return program;
    attr.log_buf = (unsigned long)log; /* asked for only now: writing the log costs more than the verification */
    attr.log_size = log_size;
    attr.log_level = 1;
    return call(BPF_PROG_LOAD, &attr);
}

int bpf_attach(int program, int target, unsigned int attach)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.link_create.prog_fd = program;
    attr.link_create.target_fd = target;
    attr.link_create.attach_type = attach;
    return call(BPF_LINK_CREATE, &attr);
}

int bpf_swap(int link, int program)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.link_update.link_fd = link;
    attr.link_update.new_prog_fd = program;
    return call(BPF_LINK_UPDATE, &attr);
}

int bpf_detach(int link)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.link_detach.link_fd = link;
    return call(BPF_LINK_DETACH, &attr);
}

int bpf_attach_map(int program, int map, unsigned int attach)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.target_fd = map;
    attr.attach_bpf_fd = program;
    attr.attach_type = attach;
    return call(BPF_PROG_ATTACH, &attr);
}

static int query(int target, unsigned int attach, unsigned int flags, unsigned int *ids, unsigned int room)
{
    union bpf_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.query.target_fd = target;
    attr.query.attach_type = attach;
    attr.query.query_flags = flags;
    attr.query.prog_ids = (unsigned long)ids;
    attr.query.prog_cnt = room;
    int failed = call(BPF_PROG_QUERY, &attr);
    return failed ? failed : (int)attr.query.prog_cnt;
}

int bpf_map_program(int map, unsigned int attach)
{
    unsigned int id = 0;
    int count = query(map, attach, 0, &id, 1);
    return count < 0 ? count : (int)id;
}

int bpf_mount(const char *path)
{
    return mount("bpf", path, "bpf", 0, "mode=0700") ? -errno : 0;
}

int bpf_effective(int cgroup, unsigned int attach, unsigned int *ids, unsigned int room)
{
    return query(cgroup, attach, BPF_F_QUERY_EFFECTIVE, ids, room);
}
