/* Splitting and printing of URLs. */
#include "pq/url.h"

#include "pq/url_internal.h"

/* What SQLAlchemy 2.1 leaves in a database name; 2.0 neither decodes nor encodes it. */
static const char DATABASE_SAFE[] = " +/";
/* Options whose values hold no secret. All others, also those of future versions of libpq, are
 * hidden. */
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

static bool is_harmless(mig_text key, mig_text value)
{
    /* libpq takes such a name of a database for a URL or a connection string. */
    if (mig_text_is(key, "dbname"))
        for (size_t i = 0; i < value.length; i++)
            if (value.text[i] == '=' || value.text[i] == ':')
                return false;
    return among(key, HARMLESS_OPTIONS, sizeof HARMLESS_OPTIONS / sizeof HARMLESS_OPTIONS[0]);
}

bool mig_url_is_harmless(const char *key, const char *value)
{
    return is_harmless((mig_text){key, strlen(key)}, (mig_text){value, strlen(value)});
}

/* urllib.parse.unquote, or unquote_plus. */
static mig_status unquote(mig_text in, bool plus, mig_arena *arena, mig_text *out, mig_error *error)
{
    char *bytes = mig_arena_get(arena, in.length + 1);
    char *text = mig_arena_get_array(arena, in.length + 1, 3);
    if (bytes == NULL || text == NULL)
        return mig_fail_memory(error);
    size_t length = 0;
    for (size_t i = 0; i < in.length; i++) {
        char c = in.text[i];
        if (c == '%' && i + 2 < in.length && mig_hex_value(in.text[i + 1]) >= 0 &&
            mig_hex_value(in.text[i + 2]) >= 0) {
            bytes[length++] =
                (char)(mig_hex_value(in.text[i + 1]) * 16 + mig_hex_value(in.text[i + 2]));
            i += 2;
        } else {
            bytes[length++] = plus && c == '+' ? ' ' : c;
        }
    }
    char *end = text;
    for (size_t i = 0; i < length;) {
        uint32_t point;
        size_t n = mig_utf8_decode(bytes + i, length - i, &point);
        end += mig_utf8_encode(end, point != MIG_UTF8_INVALID ? point : MIG_UTF8_REPLACEMENT);
        i += n;
    }
    *end = '\0';
    *out = text_between(text, end);
    return MIG_OK;
}

/* Python's int() over ASCII, printed again. A port that is no number never reaches the message: it
 * may be part of a password that was not encoded. */
mig_status mig_url_number(mig_text in, mig_arena *arena, mig_text *out, mig_error *error)
{
    const char *p = in.text, *end = in.text + in.length;
    while (p < end && mig_is_python_space(*p))
        p++;
    while (p < end && mig_is_python_space(end[-1]))
        end--;
    char *text = mig_arena_get(arena, in.length + 2);
    if (text == NULL)
        return mig_fail_memory(error);
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
        if (!mig_is_digit(*p))
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
    *out = text_between(text, to);
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
        return mig_fail_memory(error);
    while (p < end) {
        const char *stop = find_byte(p, end, '&');
        const char *sign = find_byte(p, stop, '=');
        if (sign < stop && sign + 1 < stop) {
            option *o = &url->options[url->option_count];
            MIG_TRY(unquote(text_between(p, sign), true, arena, &o->key, error));
            MIG_TRY(unquote(text_between(sign + 1, stop), true, arena, &o->value, error));
            url->option_count++;
        }
        p = stop < end ? stop + 1 : end;
    }
    return MIG_OK;
}

/* Whether urllib.parse.quote leaves a byte as it is. */
static bool stays(char c, const char *safe)
{
    return mig_is_letter(c) || mig_is_digit(c) ||
           (c != '\0' && (strchr("_.-~", c) != NULL || strchr(safe, c) != NULL));
}

static bool all_stay(mig_text s, const char *safe)
{
    for (size_t i = 0; i < s.length; i++)
        if (!stays(s.text[i], safe))
            return false;
    return true;
}

static bool is_name_byte(char c)
{
    return mig_is_letter(c) || mig_is_digit(c) || c == '_' || c == '+' || mig_is_high(c);
}

/* SQLAlchemy's regular expression, by hand. Its groups are greedy and every one after the name is
 * optional, so that the first possible reading is the one, and the text may go on after it. */
mig_status mig_url_split(const char *text, size_t length, mig_arena *arena, parts *url,
                         mig_error *error)
{
    const char *p = text, *end = text + length;
    memset(url, 0, sizeof *url);
    while (p < end && is_name_byte(*p))
        p++;
    if (p == text || end - p < 3 || memcmp(p, "://", 3) != 0)
        return mig_fail(error, MIG_EINVAL, "the database URL does not begin with a name and '://'");
    url->name = text_between(text, p);
    p += 3;

    const char *user_end = find_either(p, end, ':', '/');
    const char *at = user_end < end && *user_end == ':' ? find_byte(user_end + 1, end, '@') : end;
    if (at < end) {
        url->username = text_between(p, user_end);
        url->password = text_between(user_end + 1, at);
        p = at + 1;
    } else {
        for (at = user_end; at > p && at[-1] != '@';)
            at--;
        if (at > p) {
            url->username = text_between(p, at - 1);
            p = at;
        }
    }

    const char *host_end = p;
    if (p < end && *p == '[') {
        const char *bracket = find_either(p, end, '/', '?');
        while (bracket > p && bracket[-1] != ']')
            bracket--;
        if (bracket > p + 2) {
            url->host = text_between(p + 1, bracket - 1);
            host_end = bracket;
        }
    }
    if (host_end == p) {
        host_end = find_byte(p, find_either(p, end, '/', '?'), ':');
        if (host_end > p)
            url->host = text_between(p, host_end);
    }
    p = host_end;
    if (p < end && *p == ':') {
        const char *port_end = find_either(p, end, '/', '?');
        MIG_TRY(mig_url_number(text_between(p + 1, port_end), arena, &url->port, error));
        p = port_end;
    }
    if (p < end && *p == '/') {
        const char *stop = find_byte(p, end, '?');
        url->database = text_between(p + 1, stop);
        url->database_is_plain = all_stay(url->database, DATABASE_SAFE);
        p = stop;
    }
    if (p < end && *p == '?')
        MIG_TRY(read_options(p + 1, find_byte(p, end, '\n'), arena, url, error));

    mig_text *encoded[] = {&url->username, &url->password, &url->database};
    for (size_t i = 0; i < 3; i++)
        if (encoded[i]->text != NULL)
            MIG_TRY(unquote(*encoded[i], false, arena, encoded[i], error));
    return MIG_OK;
}

/* urllib.parse.quote with the bytes of `safe` left as they are; returns the end of what was
 * written. */
static char *quote(char *to, mig_text in, const char *safe)
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

static char *put(char *to, mig_text in)
{
    if (in.length > 0)
        memcpy(to, in.text, in.length);
    return to + in.length;
}

/* urllib.parse.quote_plus. */
static char *quote_plus(char *to, mig_text in)
{
    char *end = quote(to, in, " ");
    for (char *p = to; p < end; p++)
        if (*p == ' ')
            *p = '+';
    return end;
}

/* Sorted by key; equal keys stay in the order of the URL (few: an insertion sort). */
static void sort_options(option *options, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        option moving = options[i];
        size_t j = i;
        for (; j > 0 && mig_text_compare(options[j - 1].key, moving.key) > 0; j--)
            options[j] = options[j - 1];
        options[j] = moving;
    }
}

mig_status mig_url_redact(const char *text, size_t length, mig_arena *arena, const char **redacted,
                          mig_error *error)
{
    parts p;
    MIG_TRY(mig_url_split(text, length, arena, &p, error));
    size_t room = 64 + p.name.length + p.host.length + p.port.length +
                  3 * (p.username.length + p.database.length);
    for (size_t i = 0; i < p.option_count; i++)
        room += 8 + 3 * (p.options[i].key.length + p.options[i].value.length);
    char *begin = mig_arena_get(arena, room), *to = begin;
    if (begin == NULL)
        return mig_fail_memory(error);
    to = put(put(to, p.name), mig_text_of("://"));
    if (p.username.text != NULL) {
        to = quote(to, p.username, " +");
        if (p.password.text != NULL)
            to = put(to, mig_text_of(":***"));
        *to++ = '@';
    }
    if (p.host.text != NULL) {
        bool brackets =
            find_byte(p.host.text, p.host.text + p.host.length, ':') < p.host.text + p.host.length;
        to = put(to, mig_text_of(brackets ? "[" : ""));
        to = put(put(to, p.host), mig_text_of(brackets ? "]" : ""));
    }
    if (p.port.text != NULL)
        to = put(put(to, mig_text_of(":")), p.port);
    if (p.database.text != NULL)
        to = quote(put(to, mig_text_of("/")), p.database, DATABASE_SAFE);
    sort_options(p.options, p.option_count);
    for (size_t i = 0; i < p.option_count; i++) {
        mig_text key = p.options[i].key;
        *to++ = i == 0 ? '?' : '&';
        to = quote_plus(to, key);
        *to++ = '=';
        if (is_harmless(key, p.options[i].value))
            to = quote_plus(to, p.options[i].value);
        else
            to = put(to, mig_text_of("***"));
    }
    *to = '\0';
    *redacted = begin;
    return MIG_OK;
}
