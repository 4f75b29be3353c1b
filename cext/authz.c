#include "authz.h"

#include <stdbool.h>
#include <string.h>

/* ---- one condition ---- */

static uint8_t small(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
}

static bool same(const uint8_t *a, const uint8_t *b, size_t length, bool any_case)
{
    if (!any_case)
        return memcmp(a, b, length) == 0;
    for (size_t i = 0; i < length; i++)
        if (small(a[i]) != b[i])
            return false;
    return true;
}

static bool text_holds(const struct authz *a, const struct authz_text *text, struct authz_span value, bool any_case)
{
    const uint8_t *wanted = a->bytes + text->at;
    size_t length = text->length;
    if (value.length < length)
        return false;
    switch (text->how) {
    case AUTHZ_EXACT: return value.length == length && same(value.at, wanted, length, any_case);
    case AUTHZ_PREFIX: return same(value.at, wanted, length, any_case);
    case AUTHZ_SUFFIX: return same(value.at + value.length - length, wanted, length, any_case);
    default: return value.length > 0;
    }
}

static bool any_text(const struct authz *a, struct authz_range range, struct authz_span value, bool any_case)
{
    for (uint32_t i = 0; i < range.count; i++)
        if (text_holds(a, &a->texts[range.first + i], value, any_case))
            return true;
    return false;
}

static bool texts_hold(const struct authz *a, struct authz_range wanted, struct authz_range unwanted,
                       struct authz_span value, bool any_case)
{
    return (wanted.count == 0 || any_text(a, wanted, value, any_case)) && !any_text(a, unwanted, value, any_case);
}

static bool is_v4(const uint8_t ip[16])
{
    return memcmp(ip, "\0\0\0\0\0\0\0\0\0\0\xff\xff", 12) == 0;
}

static bool block_holds(const struct authz_block *block, const uint8_t ip[16])
{
    if (is_v4(ip) != (block->bits >= 96 && is_v4(block->ip)))
        return false;
    uint32_t whole = block->bits / 8, rest = block->bits % 8;
    uint8_t mask = (uint8_t)(0xff00 >> rest);
    return memcmp(block->ip, ip, whole) == 0 && (rest == 0 || ((block->ip[whole] ^ ip[whole]) & mask) == 0);
}

static bool any_block(const struct authz *a, struct authz_range range, const uint8_t ip[16])
{
    for (uint32_t i = 0; i < range.count; i++)
        if (block_holds(&a->blocks[range.first + i], ip))
            return true;
    return false;
}

static bool any_port(const struct authz *a, struct authz_range range, uint16_t port)
{
    for (uint32_t i = 0; i < range.count; i++)
        if (a->ports[range.first + i] == port)
            return true;
    return false;
}

/* ---- who ---- */

struct caller {
    struct authz_span name;  /* without spiffe://; empty: nobody proven */
    struct authz_span space; /* the namespace; empty: none */
};

/* Takes the next part of a path of "/"; false: `name` is not what it is. */
static bool part(struct authz_span *rest, const char *name, struct authz_span *found)
{
    const uint8_t *slash = memchr(rest->at, '/', rest->length);
    size_t length = slash ? (size_t)(slash - rest->at) : rest->length, step = length + (slash != NULL);
    *found = (struct authz_span){rest->at, length};
    rest->at += step;
    rest->length -= step;
    return !name || (slash && length == strlen(name) && memcmp(found->at, name, length) == 0);
}

static struct caller caller_of(const char *identity)
{
    struct caller caller = {{(const uint8_t *)"", 0}, {(const uint8_t *)"", 0}};
    if (!identity || strncmp(identity, "spiffe://", 9) != 0)
        return caller;
    caller.name = (struct authz_span){(const uint8_t *)identity + 9, strlen(identity + 9)};
    struct authz_span rest = caller.name, domain, word, space, account;
    part(&rest, NULL, &domain);
    if (!part(&rest, "ns", &word))
        return caller;
    part(&rest, NULL, &space);
    if (!part(&rest, "sa", &word))
        return caller;
    part(&rest, NULL, &account);
    if (domain.length > 0 && account.length > 0 && rest.length == 0 && account.at[account.length] == '\0')
        caller.space = space;
    return caller;
}

static bool source_holds(const struct authz *a, const struct authz_source *s, const struct caller *caller,
                         const uint8_t client[16])
{
    return texts_hold(a, s->principals, s->not_principals, caller->name, false) &&
           texts_hold(a, s->namespaces, s->not_namespaces, caller->space, false) &&
           (s->blocks.count == 0 || any_block(a, s->blocks, client)) && !any_block(a, s->not_blocks, client);
}

/* ---- what for ---- */

static bool paths_in(const struct authz_operation *o)
{
    return o->paths.count || o->not_paths.count;
}

static bool hosts_in(const struct authz_operation *o)
{
    return o->hosts.count || o->not_hosts.count;
}

static bool http_in(const struct authz_operation *o)
{
    return paths_in(o) || hosts_in(o) || o->methods.count || o->not_methods.count;
}

static bool operation_holds(const struct authz *a, const struct authz_operation *o, const struct authz_facts *facts)
{
    if ((o->ports.count && !any_port(a, o->ports, facts->port)) || any_port(a, o->not_ports, facts->port))
        return false;
    return facts->known != AUTHZ_HTTP || (texts_hold(a, o->hosts, o->not_hosts, facts->host, true) &&
                                          texts_hold(a, o->methods, o->not_methods, facts->method, false) &&
                                          texts_hold(a, o->paths, o->not_paths, facts->path, false));
}

/* ---- rules and policies ---- */

static bool rule_needs_http(const struct authz *a, const struct authz_rule *rule)
{
    for (uint32_t i = 0; i < rule->operations.count; i++)
        if (http_in(&a->operations[rule->operations.first + i]))
            return true;
    return false;
}

static bool rule_holds(const struct authz *a, const struct authz_rule *rule, const struct caller *caller,
                       const struct authz_facts *facts)
{
    bool from = rule->sources.count == 0, to = rule->operations.count == 0;
    for (uint32_t i = 0; !from && i < rule->sources.count; i++)
        from = source_holds(a, &a->sources[rule->sources.first + i], caller, facts->client);
    for (uint32_t i = 0; from && !to && i < rule->operations.count; i++)
        to = operation_holds(a, &a->operations[rule->operations.first + i], facts);
    return from && to;
}

static int32_t first_rule(const struct authz *a, const struct authz_policy *policy, const struct caller *caller,
                          const struct authz_facts *facts)
{
    uint8_t unsure = policy->action == AUTHZ_ALLOW ? AUTHZ_TCP : AUTHZ_PASSED; /* then a rule that needs HTTP is out */
    for (uint32_t i = 0; i < policy->rules.count; i++) {
        const struct authz_rule *rule = &a->rules[policy->rules.first + i];
        if (facts->known == unsure && rule_needs_http(a, rule))
            continue;
        if (rule_holds(a, rule, caller, facts))
            return (int32_t)i;
    }
    return -1;
}

int32_t authz_match(const struct authz *a, uint32_t policy, const struct authz_facts *facts)
{
    struct caller caller = caller_of(facts->identity);
    return first_rule(a, &a->policies[policy], &caller, facts);
}

struct authz_ruling authz_check(const struct authz *a, const struct authz_facts *facts, int trial)
{
    struct caller caller = caller_of(facts->identity);
    bool closed = a->default_deny;
    for (uint32_t i = 0; i < a->policy_count && a->policies[i].action != AUTHZ_AUDIT; i++) {
        const struct authz_policy *policy = &a->policies[i];
        if (policy->dry_run && !trial)
            continue;
        closed |= policy->action == AUTHZ_ALLOW;
        int32_t rule = first_rule(a, policy, &caller, facts);
        if (rule >= 0)
            return (struct authz_ruling){(int32_t)i, rule, policy->action == AUTHZ_ALLOW};
    }
    return (struct authz_ruling){-1, -1, !closed};
}

/* ---- the arrays as a whole ---- */

static int any_operation(const struct authz *a, bool (*looks)(const struct authz_operation *))
{
    for (uint32_t i = 0; i < a->operation_count; i++)
        if (looks(&a->operations[i]))
            return 1;
    return 0;
}

int authz_needs_http(const struct authz *a) { return any_operation(a, http_in); }
int authz_needs_paths(const struct authz *a) { return any_operation(a, paths_in); }
int authz_needs_hosts(const struct authz *a) { return any_operation(a, hosts_in); }

static bool fits(struct authz_range range, uint32_t size)
{
    return range.first <= size && range.count <= size - range.first;
}

static bool sources_fit(const struct authz *a)
{
    for (uint32_t i = 0; i < a->source_count; i++) {
        const struct authz_source *s = &a->sources[i];
        if (!fits(s->principals, a->text_count) || !fits(s->not_principals, a->text_count) ||
            !fits(s->namespaces, a->text_count) || !fits(s->not_namespaces, a->text_count) ||
            !fits(s->blocks, a->block_count) || !fits(s->not_blocks, a->block_count))
            return false;
    }
    return true;
}

static bool operations_fit(const struct authz *a)
{
    for (uint32_t i = 0; i < a->operation_count; i++) {
        const struct authz_operation *o = &a->operations[i];
        if (!fits(o->hosts, a->text_count) || !fits(o->not_hosts, a->text_count) || !fits(o->methods, a->text_count) ||
            !fits(o->not_methods, a->text_count) || !fits(o->paths, a->text_count) ||
            !fits(o->not_paths, a->text_count) || !fits(o->ports, a->port_count) || !fits(o->not_ports, a->port_count))
            return false;
    }
    return true;
}

static bool values_fit(const struct authz *a)
{
    for (uint32_t i = 0; i < a->text_count; i++)
        if (!fits((struct authz_range){a->texts[i].at, a->texts[i].length}, a->byte_count) ||
            a->texts[i].how > AUTHZ_PRESENT)
            return false;
    for (uint32_t i = 0; i < a->block_count; i++)
        if (a->blocks[i].bits > 128)
            return false;
    return true;
}

int authz_valid(const struct authz *a)
{
    uint8_t action = AUTHZ_DENY;
    for (uint32_t i = 0; i < a->policy_count; i++) {
        if (a->policies[i].action < action || a->policies[i].action > AUTHZ_AUDIT ||
            !fits(a->policies[i].rules, a->rule_count))
            return 0;
        action = a->policies[i].action;
    }
    for (uint32_t i = 0; i < a->rule_count; i++)
        if (!fits(a->rules[i].sources, a->source_count) || !fits(a->rules[i].operations, a->operation_count))
            return 0;
    return sources_fit(a) && operations_fit(a) && values_fit(a);
}
