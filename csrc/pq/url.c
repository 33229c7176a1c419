#include "pq/url.h"

#include <stdbool.h>
#include <string.h>

/* A piece of text; `text` is NULL where SQLAlchemy has None. */
typedef struct slice {
    const char *text;
    size_t length;
} slice;

typedef struct option {
    slice key;
    slice value;
} option;

typedef struct parts {
    slice name; /* dialect and driver: postgresql+psycopg */
    slice username;
    slice password;
    slice host;
    slice port; /* digits, as Python's int() would print them */
    slice database;
    bool database_is_plain; /* as it stands, the same to each SQLAlchemy */
    option *options;
    size_t option_count;
} parts;

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

/* What SQLAlchemy 2.1 leaves in a database's name; 2.0 decodes and encodes nothing there. */
static const char DATABASE_SAFE[] = " +/";
/* Options whose values tell nobody's secret. Any other, also one that libpq will have some day, is
 * not printed. */
static const char *const HARMLESS_OPTIONS[] = {
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "fallback_application_name",
    "gssencmode",
    "gsslib",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "port",
    "replication",
    "require_auth",
    "requirepeer",
    "service",
    "ssl",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
};

static slice slice_of(const char *from, const char *to)
{
    slice s = {from, (size_t)(to - from)};
    return s;
}

static slice constant(const char *text)
{
    return slice_of(text, text + strlen(text));
}

static bool equals(slice s, const char *text)
{
    return s.length == strlen(text) && memcmp(s.text, text, s.length) == 0;
}

static bool same(slice a, slice b)
{
    return a.length == b.length && memcmp(a.text, b.text, a.length) == 0;
}

static bool among(slice s, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (equals(s, names[i]))
            return true;
    return false;
}

static bool is_harmless(slice key, slice value)
{
    /* libpq takes such a name of a database for a URL or a connection string. */
    if (equals(key, "dbname"))
        for (size_t i = 0; i < value.length; i++)
            if (value.text[i] == '=' || value.text[i] == ':')
                return false;
    return among(key, HARMLESS_OPTIONS, sizeof HARMLESS_OPTIONS / sizeof HARMLESS_OPTIONS[0]);
}

bool mig_url_is_harmless(const char *key, const char *value)
{
    return is_harmless((slice){key, strlen(key)}, (slice){value, strlen(value)});
}

static const char *find_byte(const char *from, const char *to, char byte)
{
    const char *found = from < to ? memchr(from, byte, (size_t)(to - from)) : NULL;
    return found != NULL ? found : to;
}

/* The first of two bytes, or `to`. */
static const char *find_either(const char *from, const char *to, char one, char other)
{
    const char *found = find_byte(from, to, one);
    return find_byte(from, found, other);
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* How many bytes of a UTF-8 sequence stand at `p`; *whole says whether it is complete. What is not
 * complete is one replacement character, as in Python's decoder. */
static size_t utf8_sequence(const unsigned char *p, const unsigned char *end, bool *whole)
{
    unsigned char low = 0x80, high = 0xBF;
    size_t follow;
    *whole = false;
    if (p[0] < 0x80) {
        *whole = true;
        return 1;
    }
    if (p[0] >= 0xC2 && p[0] <= 0xDF)
        follow = 1;
    else if (p[0] >= 0xE0 && p[0] <= 0xEF)
        follow = 2;
    else if (p[0] >= 0xF0 && p[0] <= 0xF4)
        follow = 3;
    else
        return 1;
    if (p[0] == 0xE0)
        low = 0xA0;
    else if (p[0] == 0xED)
        high = 0x9F;
    else if (p[0] == 0xF0)
        low = 0x90;
    else if (p[0] == 0xF4)
        high = 0x8F;
    size_t n = 1;
    for (; n <= follow; n++) {
        if (p + n == end || p[n] < low || p[n] > high)
            return n;
        low = 0x80;
        high = 0xBF;
    }
    *whole = true;
    return n;
}

/* urllib.parse.unquote, or unquote_plus. */
static mig_status unquote(slice in, bool plus, mig_arena *arena, slice *out, mig_error *error)
{
    unsigned char *bytes = mig_arena_get(arena, in.length + 1);
    char *text = mig_arena_get_array(arena, in.length + 1, 3);
    if (bytes == NULL || text == NULL)
        return mig_fail(error, MIG_ENOMEM, "out of memory");
    size_t length = 0;
    for (size_t i = 0; i < in.length; i++) {
        char c = in.text[i];
        if (c == '%' && i + 2 < in.length && hex_value(in.text[i + 1]) >= 0 &&
            hex_value(in.text[i + 2]) >= 0) {
            bytes[length++] =
                (unsigned char)(hex_value(in.text[i + 1]) * 16 + hex_value(in.text[i + 2]));
            i += 2;
        } else {
            bytes[length++] = (unsigned char)(plus && c == '+' ? ' ' : c);
        }
    }
    char *end = text;
    for (size_t i = 0; i < length;) {
        bool whole;
        size_t n = utf8_sequence(bytes + i, bytes + length, &whole);
        if (whole) {
            memcpy(end, bytes + i, n);
            end += n;
        } else {
            memcpy(end, "\xEF\xBF\xBD", 3);
            end += 3;
        }
        i += n;
    }
    *end = '\0';
    *out = slice_of(text, end);
    return MIG_OK;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F);
}

/* Python's int() over ASCII, printed again. A port that is no number never reaches the message: it
 * may be part of a password that was not encoded. */
static mig_status read_number(slice in, mig_arena *arena, slice *out, mig_error *error)
{
    const char *p = in.text, *end = in.text + in.length;
    while (p < end && is_space(*p))
        p++;
    while (p < end && is_space(end[-1]))
        end--;
    char *text = mig_arena_get(arena, in.length + 2);
    if (text == NULL)
        return mig_fail(error, MIG_ENOMEM, "out of memory");
    char *to = text;
    bool negative = p < end && *p == '-';
    if (p < end && (*p == '-' || *p == '+'))
        p++;
    bool digit_before = false, any = false, leading = true;
    for (; p < end; p++) {
        if (*p == '_' && digit_before && p + 1 < end) {
            digit_before = false;
            continue;
        }
        if (*p < '0' || *p > '9')
            break;
        digit_before = any = true;
        if (*p == '0' && leading)
            continue;
        if (leading && negative)
            *to++ = '-';
        leading = false;
        *to++ = *p;
    }
    if (p != end || !any || !digit_before)
        return mig_fail(error, MIG_EINVAL, "the port in the database URL is not a number");
    if (leading)
        *to++ = '0';
    *to = '\0';
    *out = slice_of(text, to);
    return MIG_OK;
}

static mig_status read_options(const char *p, const char *end, mig_arena *arena, parts *url,
                               mig_error *error)
{
    size_t count = 1;
    for (const char *q = p; q < end; q++)
        count += *q == '&';
    url->options = mig_arena_get_array(arena, count, sizeof *url->options);
    if (url->options == NULL)
        return mig_fail(error, MIG_ENOMEM, "out of memory");
    while (p < end) {
        const char *stop = find_byte(p, end, '&');
        const char *sign = find_byte(p, stop, '=');
        if (sign < stop && sign + 1 < stop) {
            option *o = &url->options[url->option_count];
            mig_status status = unquote(slice_of(p, sign), true, arena, &o->key, error);
            if (status == MIG_OK)
                status = unquote(slice_of(sign + 1, stop), true, arena, &o->value, error);
            if (status != MIG_OK)
                return status;
            url->option_count++;
        }
        p = stop < end ? stop + 1 : end;
    }
    return MIG_OK;
}

/* Whether urllib.parse.quote leaves a byte as it is. */
static bool stays(char c, const char *safe)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != '\0' && (strchr("_.-~", c) != NULL || strchr(safe, c) != NULL));
}

static bool all_stay(slice s, const char *safe)
{
    for (size_t i = 0; i < s.length; i++)
        if (!stays(s.text[i], safe))
            return false;
    return true;
}

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '+' || (unsigned char)c >= 0x80;
}

/* SQLAlchemy's regular expression, by hand. Its groups are greedy and every one after the name is
 * optional, so that the first possible reading is the one, and the text may go on after it. */
static mig_status split(const char *text, size_t length, mig_arena *arena, parts *url,
                        mig_error *error)
{
    const char *p = text, *end = text + length;
    mig_status status = MIG_OK;
    memset(url, 0, sizeof *url);
    while (p < end && is_name_byte(*p))
        p++;
    if (p == text || end - p < 3 || memcmp(p, "://", 3) != 0)
        return mig_fail(error, MIG_EINVAL, "the database URL does not begin with a name and '://'");
    url->name = slice_of(text, p);
    p += 3;

    const char *user_end = find_either(p, end, ':', '/');
    const char *at = user_end < end && *user_end == ':' ? find_byte(user_end + 1, end, '@') : end;
    if (at < end) {
        url->username = slice_of(p, user_end);
        url->password = slice_of(user_end + 1, at);
        p = at + 1;
    } else {
        for (at = user_end; at > p && at[-1] != '@';)
            at--;
        if (at > p) {
            url->username = slice_of(p, at - 1);
            p = at;
        }
    }

    const char *host_end = p;
    if (p < end && *p == '[') {
        const char *bracket = find_either(p, end, '/', '?');
        while (bracket > p && bracket[-1] != ']')
            bracket--;
        if (bracket > p + 2) {
            url->host = slice_of(p + 1, bracket - 1);
            host_end = bracket;
        }
    }
    if (host_end == p) {
        host_end = find_byte(p, find_either(p, end, '/', '?'), ':');
        if (host_end > p)
            url->host = slice_of(p, host_end);
    }
    p = host_end;
    if (p < end && *p == ':') {
        const char *port_end = find_either(p, end, '/', '?');
        status = read_number(slice_of(p + 1, port_end), arena, &url->port, error);
        if (status != MIG_OK)
            return status;
        p = port_end;
    }
    if (p < end && *p == '/') {
        const char *stop = find_byte(p, end, '?');
        url->database = slice_of(p + 1, stop);
        url->database_is_plain = all_stay(url->database, DATABASE_SAFE);
        p = stop;
    }
    if (p < end && *p == '?')
        status = read_options(p + 1, find_byte(p, end, '\n'), arena, url, error);

    slice *encoded[] = {&url->username, &url->password, &url->database};
    for (size_t i = 0; i < 3 && status == MIG_OK; i++)
        if (encoded[i]->text != NULL)
            status = unquote(*encoded[i], false, arena, encoded[i], error);
    return status;
}

/* The dictionary that SQLAlchemy hands to the driver: few entries, in order, the last value wins.
 */
typedef struct settings {
    slice *keys;
    slice *values;
    size_t count;
} settings;

static void set(settings *s, slice key, slice value)
{
    size_t i = 0;
    while (i < s->count && !same(s->keys[i], key))
        i++;
    s->keys[i] = key;
    s->values[i] = value;
    if (i == s->count)
        s->count++;
}

static size_t count_option(const parts *url, const char *key, slice *first)
{
    size_t count = 0;
    for (size_t i = 0; i < url->option_count; i++)
        if (equals(url->options[i].key, key)) {
            if (count++ == 0)
                *first = url->options[i].value;
        }
    return count;
}

static slice slice_at_comma(slice *rest)
{
    const char *end = rest->text + rest->length, *comma = find_byte(rest->text, end, ',');
    slice item = slice_of(rest->text, comma);
    *rest = comma < end ? slice_of(comma + 1, end) : slice_of(NULL, NULL);
    return item;
}

static size_t count_commas(slice s)
{
    size_t count = 0;
    for (size_t i = 0; i < s.length; i++)
        count += s.text[i] == ',';
    return count;
}

typedef struct hosts {
    slice *hosts;
    size_t host_count;
    slice *ports; /* NULL text: none */
    size_t port_count;
} hosts;

static bool is_host_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.';
}

/* host=name:port as the only host, without port=: true, and the two parts. */
static bool host_with_port(slice value, slice *host, slice *port)
{
    const char *end = value.text + value.length, *colon = find_byte(value.text, end, ':');
    for (const char *p = value.text; p < colon; p++)
        if (!is_host_byte(*p))
            return false;
    for (const char *p = colon + 1; p < end; p++)
        if (*p < '0' || *p > '9')
            return false;
    *host = slice_of(value.text, colon);
    *port = colon + 1 < end ? slice_of(colon + 1, end) : slice_of(NULL, NULL);
    return true;
}

/* _split_multihost_from_url: the hosts and ports of the query, in either of its two notations. */
static mig_status read_hosts(const parts *url, mig_arena *arena, hosts *h, mig_error *error)
{
    slice host = {NULL, 0}, port = {NULL, 0};
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
        return mig_fail(error, MIG_ENOMEM, "out of memory");

    if (integrated) {
        /* Python's zip() of the split tokens: the shortest token decides how many fields there are.
         */
        size_t fields = SIZE_MAX;
        for (size_t i = 0; i < url->option_count; i++) {
            if (!equals(url->options[i].key, "host"))
                continue;
            slice value = url->options[i].value;
            const char *end = value.text + value.length;
            const char *colon = find_byte(value.text, end, ':');
            size_t parts_here = 2;
            slice its_port = {NULL, 0};
            if (colon < end) {
                const char *second = find_byte(colon + 1, end, ':');
                its_port = slice_of(colon + 1, second);
                if (second < end)
                    parts_here = 3;
            }
            fields = parts_here < fields ? parts_here : fields;
            h->hosts[h->host_count++] = slice_of(value.text, colon);
            h->ports[h->port_count++] = its_port;
        }
        if (fields > 2)
            return mig_fail(error, MIG_EINVAL,
                            "a host in the database URL's query has more than one port");
    } else if (host_options == 1) {
        slice one_host, one_port;
        if (port_options == 0 && count_commas(host) == 0 &&
            find_byte(host.text, host.text + host.length, ':') < host.text + host.length &&
            host_with_port(host, &one_host, &one_port)) {
            integrated = true;
            h->hosts[h->host_count++] = one_host;
            h->ports[h->port_count++] = one_port;
        } else {
            for (slice rest = host; rest.text != NULL;)
                h->hosts[h->host_count++] = slice_at_comma(&rest);
        }
    }
    if (port_options > 0) {
        if (integrated)
            return mig_fail(error, MIG_EINVAL,
                            "the database URL's query mixes host=h1:p1&host=h2:p2 with port=");
        if (port_options > 1) {
            for (size_t i = 0; i < url->option_count; i++)
                if (equals(url->options[i].key, "port"))
                    h->ports[h->port_count++] = url->options[i].value;
        } else {
            for (slice rest = port; rest.text != NULL;)
                h->ports[h->port_count++] = slice_at_comma(&rest);
        }
    }
    for (size_t i = 0; i < h->port_count; i++) {
        if (h->ports[i].length == 0)
            continue;
        mig_status status = read_number(h->ports[i], arena, &h->ports[i], error);
        if (status != MIG_OK)
            return status;
        if (equals(h->ports[i], "0"))
            h->ports[i].length = 0;
    }
    if (h->port_count > 0 && ((h->host_count == 0 && h->port_count > 1) ||
                              (h->host_count > 0 && h->host_count != h->port_count &&
                               (h->host_count > 1 || h->port_count > 1))))
        return mig_fail(error, MIG_EINVAL,
                        "the numbers of hosts and ports in the database URL don't match");
    return MIG_OK;
}

static mig_status join(const slice *items, size_t count, size_t of, mig_arena *arena, slice *joined,
                       mig_error *error)
{
    size_t room = of + 1;
    for (size_t i = 0; i < count; i++)
        room += items[i].length;
    char *text = mig_arena_get(arena, room), *p = text;
    if (text == NULL)
        return mig_fail(error, MIG_ENOMEM, "out of memory");
    for (size_t i = 0; i < of; i++) {
        if (i > 0)
            *p++ = ',';
        if (i < count && items[i].length > 0) {
            memcpy(p, items[i].text, items[i].length);
            p += items[i].length;
        }
    }
    *p = '\0';
    *joined = slice_of(text, p);
    return MIG_OK;
}

/* asyncpg's ssl=: libpq's sslmode, with underscores allowed. */
static mig_status translate_ssl(slice *value, mig_arena *arena, mig_error *error)
{
    char *mode = mig_arena_copy(arena, value->text, value->length);
    if (mode == NULL)
        return mig_fail(error, MIG_ENOMEM, "out of memory");
    for (size_t i = 0; i < value->length; i++)
        if (mode[i] == '_')
            mode[i] = '-';
    *value = slice_of(mode, mode + value->length);
    if (!among(*value, SSL_MODES, sizeof SSL_MODES / sizeof SSL_MODES[0]))
        return mig_fail(error, MIG_EDECLINED,
                        "the value of ssl= in the database URL is asyncpg's own");
    return MIG_OK;
}

static mig_status set_options(const parts *url, slice driver, settings *s, mig_arena *arena,
                              mig_error *error)
{
    bool asyncpg = equals(driver, "asyncpg");
    for (size_t i = 0; i < url->option_count; i++) {
        slice key = url->options[i].key, value = url->options[i].value;
        for (size_t j = 0; j < sizeof DRIVER_OPTIONS / sizeof DRIVER_OPTIONS[0]; j++)
            if (equals(key, DRIVER_OPTIONS[j]))
                return mig_fail(error, MIG_EDECLINED,
                                "the database URL's option '%s' is known to a driver only",
                                DRIVER_OPTIONS[j]);
        if (!equals(key, "host") && !equals(key, "port"))
            for (size_t j = 0; j < i; j++)
                if (same(url->options[j].key, key))
                    return mig_fail(error, MIG_EINVAL,
                                    "an option of the database URL is given more than once");
        if (asyncpg && equals(key, "ssl")) {
            mig_status status = translate_ssl(&value, arena, error);
            if (status != MIG_OK)
                return status;
            key = constant("sslmode");
        } else if ((asyncpg || equals(driver, "psycopg2")) && equals(key, "database")) {
            key = constant("dbname");
        }
        set(s, key, value);
    }
    return MIG_OK;
}

mig_status mig_url_parse(const char *text, size_t length, mig_arena *arena, mig_url *url,
                         mig_error *error)
{
    parts p;
    hosts h;
    settings s = {NULL, NULL, 0};
    memset(url, 0, sizeof *url);
    mig_status status = split(text, length, arena, &p, error);
    if (status != MIG_OK)
        return status;
    const char *name_end = p.name.text + p.name.length;
    const char *plus = find_byte(p.name.text, name_end, '+');
    slice dialect = slice_of(p.name.text, plus);
    slice driver = plus < name_end ? slice_of(plus + 1, name_end) : constant("");
    if (!equals(dialect, "postgresql") && !equals(dialect, "postgres"))
        return mig_fail(error, MIG_EINVAL, "the database URL is not PostgreSQL's");

    s.keys = mig_arena_get_array(arena, p.option_count + 5, sizeof *s.keys);
    s.values = mig_arena_get_array(arena, p.option_count + 5, sizeof *s.values);
    if (s.keys == NULL || s.values == NULL)
        return mig_fail(error, MIG_ENOMEM, "out of memory");
    if (p.database.length > 0 && !p.database_is_plain)
        return mig_fail(error, MIG_EDECLINED,
                        "SQLAlchemy 2.0 and 2.1 read the database's name in the URL differently");
    if (p.host.length > 0)
        set(&s, constant("host"), p.host);
    if (p.database.length > 0)
        set(&s, constant("dbname"), p.database);
    if (p.username.length > 0)
        set(&s, constant("user"), p.username);
    if (p.password.length > 0)
        set(&s, constant("password"), p.password);
    if (p.port.length > 0 && !equals(p.port, "0"))
        set(&s, constant("port"), p.port);
    status = read_hosts(&p, arena, &h, error);
    if (status == MIG_OK)
        status = set_options(&p, driver, &s, arena, error);
    if (status != MIG_OK)
        return status;
    if (h.host_count > 0) {
        slice joined;
        status = join(h.hosts, h.host_count, h.host_count, arena, &joined, error);
        if (status != MIG_OK)
            return status;
        set(&s, constant("host"), joined);
        status = join(h.ports, h.port_count, h.host_count, arena, &joined, error);
        if (status != MIG_OK)
            return status;
        if (joined.length > 0)
            set(&s, constant("port"), joined);
    }

    url->keywords = mig_arena_get_array(arena, s.count + 1, sizeof *url->keywords);
    url->values = mig_arena_get_array(arena, s.count + 1, sizeof *url->values);
    url->driver = mig_arena_copy(arena, driver.text, driver.length);
    if (url->keywords == NULL || url->values == NULL || url->driver == NULL)
        return mig_fail(error, MIG_ENOMEM, "out of memory");
    for (size_t i = 0; i < s.count; i++) {
        if (memchr(s.keys[i].text, '\0', s.keys[i].length) != NULL ||
            (s.values[i].length > 0 && memchr(s.values[i].text, '\0', s.values[i].length) != NULL))
            return mig_fail(error, MIG_EINVAL, "the database URL holds a zero byte");
        url->keywords[i] = mig_arena_copy(arena, s.keys[i].text, s.keys[i].length);
        url->values[i] = mig_arena_copy(arena, s.values[i].text, s.values[i].length);
        if (url->keywords[i] == NULL || url->values[i] == NULL)
            return mig_fail(error, MIG_ENOMEM, "out of memory");
    }
    url->keywords[s.count] = NULL;
    url->values[s.count] = NULL;
    url->count = s.count;
    return MIG_OK;
}

/* urllib.parse.quote with the bytes of `safe` left as they are; returns the end of what was
 * written. */
static char *quote(char *to, slice in, const char *safe)
{
    static const char HEX[] = "0123456789ABCDEF";
    for (size_t i = 0; i < in.length; i++) {
        char c = in.text[i];
        if (stays(c, safe)) {
            *to++ = c;
        } else {
            *to++ = '%';
            *to++ = HEX[(unsigned char)c >> 4];
            *to++ = HEX[(unsigned char)c & 15];
        }
    }
    return to;
}

static char *put(char *to, slice in)
{
    if (in.length > 0)
        memcpy(to, in.text, in.length);
    return to + in.length;
}

/* urllib.parse.quote_plus. */
static char *quote_plus(char *to, slice in)
{
    char *end = quote(to, in, " ");
    for (char *p = to; p < end; p++)
        if (*p == ' ')
            *p = '+';
    return end;
}

static int compare(slice a, slice b)
{
    size_t shorter = a.length < b.length ? a.length : b.length;
    int order = shorter > 0 ? memcmp(a.text, b.text, shorter) : 0;
    return order != 0 ? order : (a.length > b.length) - (a.length < b.length);
}

/* Sorted by key; equal keys stay in the order of the URL (few: an insertion sort). */
static void sort_options(option *options, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        option moving = options[i];
        size_t j = i;
        for (; j > 0 && compare(options[j - 1].key, moving.key) > 0; j--)
            options[j] = options[j - 1];
        options[j] = moving;
    }
}

mig_status mig_url_redact(const char *text, size_t length, mig_arena *arena, const char **redacted,
                          mig_error *error)
{
    parts p;
    mig_status status = split(text, length, arena, &p, error);
    if (status != MIG_OK)
        return status;
    size_t room = 64 + p.name.length + p.host.length + p.port.length +
                  3 * (p.username.length + p.database.length);
    for (size_t i = 0; i < p.option_count; i++)
        room += 8 + 3 * (p.options[i].key.length + p.options[i].value.length);
    char *begin = mig_arena_get(arena, room), *to = begin;
    if (begin == NULL)
        return mig_fail(error, MIG_ENOMEM, "out of memory");
    to = put(put(to, p.name), constant("://"));
    if (p.username.text != NULL) {
        to = quote(to, p.username, " +");
        if (p.password.text != NULL)
            to = put(to, constant(":***"));
        *to++ = '@';
    }
    if (p.host.text != NULL) {
        bool brackets =
            find_byte(p.host.text, p.host.text + p.host.length, ':') < p.host.text + p.host.length;
        to = put(to, constant(brackets ? "[" : ""));
        to = put(put(to, p.host), constant(brackets ? "]" : ""));
    }
    if (p.port.text != NULL)
        to = put(put(to, constant(":")), p.port);
    if (p.database.text != NULL)
        to = quote(put(to, constant("/")), p.database, DATABASE_SAFE);
    sort_options(p.options, p.option_count);
    for (size_t i = 0; i < p.option_count; i++) {
        slice key = p.options[i].key;
        *to++ = i == 0 ? '?' : '&';
        to = quote_plus(to, key);
        *to++ = '=';
        if (is_harmless(key, p.options[i].value))
            to = quote_plus(to, p.options[i].value);
        else
            to = put(to, constant("***"));
    }
    *to = '\0';
    *redacted = begin;
    return MIG_OK;
}
