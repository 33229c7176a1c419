/* From the parts of a URL to libpq's keywords. */
#include "pq/conninfo.h"

#include "pq/url_internal.h"

/* Known to some driver, unknown to libpq: they change how that driver behaves, so the driver must
 * be used. */
static const char *const DRIVER_OPTIONS[] = {
    "async",
    "async_",
    "async_creator_fn",
    "async_fallback",
    "autocommit",
    "command_timeout",
    "connection_class",
    "connection_factory",
    "context",
    "cursor_factory",
    "direct_tls",
    "dsn",
    "loop",
    "max_cacheable_statement_size",
    "max_cached_statement_lifetime",
    "plugin",
    "prepare_threshold",
    "prepared_statement_cache_size",
    "prepared_statement_name_func",
    "record_class",
    "row_factory",
    "server_settings",
    "source_address",
    "ssl_context",
    "startup_params",
    "statement_cache_size",
    "tcp_keepalive",
    "timeout",
    "unix_sock",
};

static const char *const SSL_MODES[] = {"disable", "allow",     "prefer",
                                        "require", "verify-ca", "verify-full"};

/* The dictionary that SQLAlchemy hands to the driver: few entries, in order, the last value wins.
 */
typedef struct settings {
    mig_text *keys;
    mig_text *values;
    size_t count;
} settings;

static void set(settings *s, mig_text key, mig_text value)
{
    size_t i = 0;
    while (i < s->count && !mig_text_equal(s->keys[i], key))
        i++;
    s->keys[i] = key;
    s->values[i] = value;
    if (i == s->count)
        s->count++;
}

static size_t count_option(const parts *url, const char *key, mig_text *first)
{
    size_t count = 0;
    for (size_t i = 0; i < url->option_count; i++)
        if (mig_text_is(url->options[i].key, key)) {
            if (count++ == 0)
                *first = url->options[i].value;
        }
    return count;
}

static mig_text text_to_comma(mig_text *rest)
{
    const char *end = rest->text + rest->length, *comma = find_byte(rest->text, end, ',');
    mig_text item = text_between(rest->text, comma);
    *rest = comma < end ? text_between(comma + 1, end) : text_between(NULL, NULL);
    return item;
}

static size_t count_commas(mig_text s)
{
    size_t count = 0;
    for (size_t i = 0; i < s.length; i++)
        count += s.text[i] == ',';
    return count;
}

typedef struct hosts {
    mig_text *hosts;
    size_t host_count;
    mig_text *ports; /* NULL text: none */
    size_t port_count;
} hosts;

static bool is_host_byte(char c)
{
    return mig_is_letter(c) || mig_is_digit(c) || c == '-' || c == '.';
}

/* host=name:port as the only host, without port=: true, and the two parts. */
static bool host_with_port(mig_text value, mig_text *host, mig_text *port)
{
    const char *end = value.text + value.length, *colon = find_byte(value.text, end, ':');
    for (const char *p = value.text; p < colon; p++)
        if (!is_host_byte(*p))
            return false;
    for (const char *p = colon + 1; p < end; p++)
        if (!mig_is_digit(*p))
            return false;
    *host = text_between(value.text, colon);
    *port = colon + 1 < end ? text_between(colon + 1, end) : text_between(NULL, NULL);
    return true;
}

/* _split_multihost_from_url: the hosts and ports of the query, in either of its two notations. */
static mig_status read_hosts(const parts *url, mig_arena *arena, hosts *h, mig_error *error)
{
    mig_text host = {NULL, 0}, port = {NULL, 0};
    size_t host_options = count_option(url, "host", &host);
    size_t port_options = count_option(url, "port", &port);
    bool integrated = host_options > 1;
    memset(h, 0, sizeof *h);

    size_t room = host_options + port_options + 1;
    for (size_t i = 0; i < url->option_count; i++)
        room += count_commas(url->options[i].value);
    h->hosts = mig_arena_get_array(arena, room, sizeof *h->hosts);
    h->ports = mig_arena_get_array(arena, room, sizeof *h->ports);
    if (h->hosts == NULL || h->ports == NULL)
        return mig_fail_memory(error);

    if (integrated) {
        /* Python's zip() of the split tokens: the shortest token decides how many fields there are.
         */
        size_t fields = SIZE_MAX;
        for (size_t i = 0; i < url->option_count; i++) {
            if (!mig_text_is(url->options[i].key, "host"))
                continue;
            mig_text value = url->options[i].value;
            const char *end = value.text + value.length;
            const char *colon = find_byte(value.text, end, ':');
            size_t parts_here = 2;
            mig_text its_port = {NULL, 0};
            if (colon < end) {
                const char *second = find_byte(colon + 1, end, ':');
                its_port = text_between(colon + 1, second);
                if (second < end)
                    parts_here = 3;
            }
            fields = parts_here < fields ? parts_here : fields;
            h->hosts[h->host_count++] = text_between(value.text, colon);
            h->ports[h->port_count++] = its_port;
        }
        if (fields > 2)
            return mig_fail(error, MIG_EINVAL,
                            "a host in the database URL's query has more than one port");
    } else if (host_options == 1) {
        mig_text one_host, one_port;
        if (port_options == 0 && count_commas(host) == 0 &&
            find_byte(host.text, host.text + host.length, ':') < host.text + host.length &&
            host_with_port(host, &one_host, &one_port)) {
            integrated = true;
            h->hosts[h->host_count++] = one_host;
            h->ports[h->port_count++] = one_port;
        } else {
            for (mig_text rest = host; rest.text != NULL;)
                h->hosts[h->host_count++] = text_to_comma(&rest);
        }
    }
    if (port_options > 0) {
        if (integrated)
            return mig_fail(error, MIG_EINVAL,
                            "the database URL's query mixes host=h1:p1&host=h2:p2 with port=");
        if (port_options > 1) {
            for (size_t i = 0; i < url->option_count; i++)
                if (mig_text_is(url->options[i].key, "port"))
                    h->ports[h->port_count++] = url->options[i].value;
        } else {
            for (mig_text rest = port; rest.text != NULL;)
                h->ports[h->port_count++] = text_to_comma(&rest);
        }
    }
    for (size_t i = 0; i < h->port_count; i++) {
        if (h->ports[i].length == 0)
            continue;
        MIG_TRY(mig_url_number(h->ports[i], arena, &h->ports[i], error));
        if (mig_text_is(h->ports[i], "0"))
            h->ports[i].length = 0;
    }
    if (h->port_count > 0 && ((h->host_count == 0 && h->port_count > 1) ||
                              (h->host_count > 0 && h->host_count != h->port_count &&
                               (h->host_count > 1 || h->port_count > 1))))
        return mig_fail(error, MIG_EINVAL,
                        "the numbers of hosts and ports in the database URL don't match");
    return MIG_OK;
}

static mig_status join(const mig_text *items, size_t count, size_t of, mig_arena *arena,
                       mig_text *joined, mig_error *error)
{
    size_t room = of + 1;
    for (size_t i = 0; i < count; i++)
        room += items[i].length;
    char *text = mig_arena_get(arena, room), *p = text;
    if (text == NULL)
        return mig_fail_memory(error);
    for (size_t i = 0; i < of; i++) {
        if (i > 0)
            *p++ = ',';
        if (i < count && items[i].length > 0) {
            memcpy(p, items[i].text, items[i].length);
            p += items[i].length;
        }
    }
    *p = '\0';
    *joined = text_between(text, p);
    return MIG_OK;
}

/* asyncpg's ssl=: libpq's sslmode, with underscores allowed. */
static mig_status translate_ssl(mig_text *value, mig_arena *arena, mig_error *error)
{
    char *mode = mig_arena_copy(arena, value->text, value->length);
    if (mode == NULL)
        return mig_fail_memory(error);
    for (size_t i = 0; i < value->length; i++)
        if (mode[i] == '_')
            mode[i] = '-';
    *value = text_between(mode, mode + value->length);
    if (!among(*value, SSL_MODES, sizeof SSL_MODES / sizeof SSL_MODES[0]))
        return mig_fail(error, MIG_EDECLINED,
                        "the value of ssl= in the database URL is asyncpg's own");
    return MIG_OK;
}

static mig_status set_options(const parts *url, mig_text driver, settings *s, mig_arena *arena,
                              mig_error *error)
{
    bool asyncpg = mig_text_is(driver, "asyncpg");
    for (size_t i = 0; i < url->option_count; i++) {
        mig_text key = url->options[i].key, value = url->options[i].value;
        for (size_t j = 0; j < sizeof DRIVER_OPTIONS / sizeof DRIVER_OPTIONS[0]; j++)
            if (mig_text_is(key, DRIVER_OPTIONS[j]))
                return mig_fail(error, MIG_EDECLINED,
                                "the database URL's option '%s' is known to a driver only",
                                DRIVER_OPTIONS[j]);
        if (!mig_text_is(key, "host") && !mig_text_is(key, "port"))
            for (size_t j = 0; j < i; j++)
                if (mig_text_equal(url->options[j].key, key))
                    return mig_fail(error, MIG_EINVAL,
                                    "an option of the database URL is given more than once");
        if (asyncpg && mig_text_is(key, "ssl")) {
            MIG_TRY(translate_ssl(&value, arena, error));
            key = mig_text_of("sslmode");
        } else if ((asyncpg || mig_text_is(driver, "psycopg2")) && mig_text_is(key, "database")) {
            key = mig_text_of("dbname");
        }
        set(s, key, value);
    }
    return MIG_OK;
}

mig_status mig_conninfo_from_url(const char *text, size_t length, mig_arena *arena,
                                 mig_conninfo *conninfo, mig_error *error)
{
    parts p;
    hosts h;
    settings s = {NULL, NULL, 0};
    memset(conninfo, 0, sizeof *conninfo);
    MIG_TRY(mig_url_split(text, length, arena, &p, error));
    const char *name_end = p.name.text + p.name.length;
    const char *plus = find_byte(p.name.text, name_end, '+');
    mig_text dialect = text_between(p.name.text, plus);
    mig_text driver = plus < name_end ? text_between(plus + 1, name_end) : mig_text_of("");
    if (!mig_text_is(dialect, "postgresql") && !mig_text_is(dialect, "postgres"))
        return mig_fail(error, MIG_EINVAL, "the database URL is not PostgreSQL's");

    s.keys = mig_arena_get_array(arena, p.option_count + 5, sizeof *s.keys);
    s.values = mig_arena_get_array(arena, p.option_count + 5, sizeof *s.values);
    if (s.keys == NULL || s.values == NULL)
        return mig_fail_memory(error);
    if (p.database.length > 0 && !p.database_is_plain)
        return mig_fail(error, MIG_EDECLINED,
                        "SQLAlchemy 2.0 and 2.1 read the database's name in the URL differently");
    if (p.host.length > 0)
        set(&s, mig_text_of("host"), p.host);
    if (p.database.length > 0)
        set(&s, mig_text_of("dbname"), p.database);
    if (p.username.length > 0)
        set(&s, mig_text_of("user"), p.username);
    if (p.password.length > 0)
        set(&s, mig_text_of("password"), p.password);
    if (p.port.length > 0 && !mig_text_is(p.port, "0"))
        set(&s, mig_text_of("port"), p.port);
    MIG_TRY(read_hosts(&p, arena, &h, error));
    MIG_TRY(set_options(&p, driver, &s, arena, error));
    if (h.host_count > 0) {
        mig_text joined;
        MIG_TRY(join(h.hosts, h.host_count, h.host_count, arena, &joined, error));
        set(&s, mig_text_of("host"), joined);
        MIG_TRY(join(h.ports, h.port_count, h.host_count, arena, &joined, error));
        if (joined.length > 0)
            set(&s, mig_text_of("port"), joined);
    }

    conninfo->keywords = mig_arena_get_array(arena, s.count + 1, sizeof *conninfo->keywords);
    conninfo->values = mig_arena_get_array(arena, s.count + 1, sizeof *conninfo->values);
    conninfo->driver = mig_arena_copy(arena, driver.text, driver.length);
    if (conninfo->keywords == NULL || conninfo->values == NULL || conninfo->driver == NULL)
        return mig_fail_memory(error);
    for (size_t i = 0; i < s.count; i++) {
        if (memchr(s.keys[i].text, '\0', s.keys[i].length) != NULL ||
            (s.values[i].length > 0 && memchr(s.values[i].text, '\0', s.values[i].length) != NULL))
            return mig_fail(error, MIG_EINVAL, "the database URL holds a zero byte");
        conninfo->keywords[i] = mig_arena_copy(arena, s.keys[i].text, s.keys[i].length);
        conninfo->values[i] = mig_arena_copy(arena, s.values[i].text, s.values[i].length);
        if (conninfo->keywords[i] == NULL || conninfo->values[i] == NULL)
            return mig_fail_memory(error);
    }
    conninfo->keywords[s.count] = NULL;
    conninfo->values[s.count] = NULL;
    conninfo->count = s.count;
    return MIG_OK;
}
