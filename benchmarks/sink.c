/* An HTTP/1.1 object store that stores nothing, for measuring those that talk to it.
 *
 *     gcc -O2 -pthread sink.c -o sink -lssl -lcrypto && ./sink -p 9000 -l 20 -b 50e6
 *
 * One thread a connection; bodies are thrown away, so that the client is what limits.
 * It answers what OSS and S3 clients ask on their way to upload and download objects:
 * PUT, multipart, HEAD, GET with ranges, DELETE, with bodies of known length. No
 * signature is looked at.
 * Sizes and checksums of what came are remembered for HEAD, and GET answers a fixed
 * pattern of that size: SHAKE-128("fsspec-osspresigned"), PERIOD bytes, repeated.
 *
 * -p PORT  0 (default) takes a free one; the port is the first line on stdout
 * -l MS    wait before each answer     -b BYTES  a second, per connection and direction
 * -g SIZE  of objects that were never put           -C  CRC-64 of each body
 * -c CERT -k KEY  TLS, PEM files       -w  end as soon as standard input ends
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HEAD_MAX 65536
#define BUFFER (256 * 1024) /* stays in the cache while its CRC is computed */
#define WRITE (1024 * 1024) /* bytes a write of an object's body */
#define PERIOD 1048573      /* a prime: no part begins where the pattern does */
#define MAX_PARTS 10000
#define SECOND INT64_C(1000000000)
#define LEAST(a, b) ((a) < (b) ? (a) : (b))

/* An ETag of 32 digits and nothing else is taken for an MD5 and compared by clients. */
#define ETAG "\"73696e6b73696e6b73696e6b73696e6b-1\""

static struct {
    double latency, rate;
    uint64_t size;
    bool crc;
    SSL_CTX *tls;
} option;

static struct {
    atomic_ullong requests, puts, parts, gets, heads, initiated, completed, deletes,
         bytes, sent, crc64, connections, open_connections, busy, max_busy;
} count;

static char started[40]; /* Last-Modified of everything */

/* --- CRC-64/XZ ------------------------------------------------------------------- */

#define POLYNOMIAL UINT64_C(0xC96C5795D7870F42) /* reflected: bit 63 is x^0 */

static uint64_t table[8][256];

static uint64_t multiply(uint64_t a, uint64_t b)
{
    uint64_t product = 0;
    for (; a; a <<= 1) {
        if (a >> 63)
            product ^= b;
        b = (b >> 1) ^ (b & 1 ? POLYNOMIAL : 0);
    }
    return product;
}

static uint64_t power_of_x(uint64_t n)
{
    uint64_t result = UINT64_C(1) << 63, square = UINT64_C(1) << 62;
    for (; n; n >>= 1, square = multiply(square, square))
        if (n & 1)
            result = multiply(result, square);
    return result;
}

/* CRC of A followed by the bytes of B. */
static uint64_t combine(uint64_t a, uint64_t b, uint64_t bytes_of_b)
{
    return multiply(a, power_of_x(8 * bytes_of_b)) ^ b;
}

static uint64_t crc64(uint64_t crc, const uint8_t *data, size_t size)
{
    uint64_t state = ~crc;
    for (; size >= 8; data += 8, size -= 8) {
        uint64_t word = 0;
        for (int i = 7; i >= 0; i--)
            word = word << 8 | data[i];
        word ^= state;
        state = 0;
        for (int i = 0; i < 8; i++)
            state ^= table[7 - i][word >> (8 * i) & 255];
    }
    for (; size; data++, size--)
        state = table[0][(state ^ *data) & 255] ^ state >> 8;
    return ~state;
}

static void prepare_crc(void)
{
    for (unsigned n = 0; n < 256; n++) {
        uint64_t rest = n;
        for (int bit = 0; bit < 8; bit++)
            rest = (rest >> 1) ^ (rest & 1 ? POLYNOMIAL : 0);
        table[0][n] = rest;
    }
    for (int more = 1; more < 8; more++)
        for (unsigned n = 0; n < 256; n++) {
            uint64_t rest = table[more - 1][n];
            table[more][n] = table[0][rest & 255] ^ rest >> 8;
        }
}

/* --- the pattern ------------------------------------------------------------------ */

/* Long enough for one whole write from any place within the period. */
static uint8_t pattern[PERIOD + WRITE];
static uint64_t period_crc;

static void prepare_pattern(void)
{
    static const char seed[] = "fsspec-osspresigned";
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (!context || !EVP_DigestInit_ex(context, EVP_shake128(), NULL) ||
        !EVP_DigestUpdate(context, seed, sizeof seed - 1) ||
        !EVP_DigestFinalXOF(context, pattern, PERIOD)) {
        fprintf(stderr, "sink: this OpenSSL has no SHAKE-128\n");
        exit(1);
    }
    EVP_MD_CTX_free(context);
    for (size_t at = PERIOD; at < sizeof pattern; at++)
        pattern[at] = pattern[at - PERIOD];
    period_crc = crc64(0, pattern, PERIOD);
}

/* By doubling, so that 10 GiB take no longer than 1 MiB. */
static uint64_t pattern_crc(uint64_t size)
{
    uint64_t crc = 0, times = size / PERIOD, piece = period_crc, length = PERIOD;
    for (; times; times >>= 1, piece = combine(piece, piece, length), length *= 2)
        if (times & 1)
            crc = combine(crc, piece, length);
    return combine(crc, crc64(0, pattern, size % PERIOD), size % PERIOD);
}

/* --- what is remembered ------------------------------------------------------------ */

struct object {
    struct object *next;
    uint64_t size, crc, pattern_crc;
    bool has_crc, has_pattern_crc;
    char name[];
};

struct part {
    uint64_t size, crc;
};

struct upload {
    struct upload *next;
    uint64_t id;
    int room; /* parts that fit */
    struct part *parts;
};

#define SLOTS 65536

static struct object *objects[SLOTS];
static struct upload *uploads[256];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_ullong last_upload, last_request;

static struct object **object_slot(const char *name)
{
    uint32_t hash = 2166136261u;
    for (const char *at = name; *at; at++)
        hash = (hash ^ (uint8_t)*at) * 16777619u;
    struct object **slot = &objects[(hash ^ hash >> 16) % SLOTS];
    while (*slot && strcmp((*slot)->name, name))
        slot = &(*slot)->next;
    return slot;
}

static struct upload **upload_slot(uint64_t id)
{
    struct upload **slot = &uploads[id % 256];
    while (*slot && (*slot)->id != id)
        slot = &(*slot)->next;
    return slot;
}

static void *must(void *memory)
{
    if (!memory) {
        fprintf(stderr, "sink: out of memory\n");
        _exit(1);
    }
    return memory;
}

static void remember(const char *name, const struct object *found)
{
    pthread_mutex_lock(&lock);
    struct object **slot = object_slot(name), *after = NULL;
    if (*slot) {
        after = (*slot)->next;
    } else {
        *slot = must(malloc(sizeof **slot + strlen(name) + 1));
        strcpy((*slot)->name, name);
    }
    memcpy(*slot, found, offsetof(struct object, name));
    (*slot)->next = after;
    pthread_mutex_unlock(&lock);
}

static void forget(struct object **slot)
{
    struct object *gone = *slot;
    if (gone) {
        *slot = gone->next;
        free(gone);
    }
}

static void forget_upload(struct upload **slot)
{
    struct upload *gone = *slot;
    *slot = gone->next;
    free(gone->parts);
    free(gone);
}

/* Fills *found*; false where nothing of that name came and no size was chosen. */
static bool look_up(const char *name, bool with_pattern, struct object *found)
{
    pthread_mutex_lock(&lock);
    struct object *there = *object_slot(name);
    if (there) {
        if (with_pattern && !there->has_pattern_crc) {
            there->pattern_crc = pattern_crc(there->size);
            there->has_pattern_crc = true;
        }
        *found = *there;
    }
    pthread_mutex_unlock(&lock);
    if (there)
        return true;
    static _Thread_local uint64_t known_size = 0, known_crc = 0;
    uint64_t size = option.size;
    if (size != known_size)
        known_crc = pattern_crc(known_size = size);
    *found = (struct object){.size = size, .has_crc = true, .crc = known_crc,
                             .pattern_crc = known_crc};
    return size > 0;
}

/* --- time --------------------------------------------------------------------------- */

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static void sleep_until(int64_t when)
{
    struct timespec t = {.tv_sec = when / SECOND, .tv_nsec = when % SECOND};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        ;
}

/* When the bytes that passed so far are through, at the rate of the connection. */
static void pace(int64_t *due, double rate, size_t bytes)
{
    if (!rate)
        return;
    int64_t clock = now();
    *due += (int64_t)((double)bytes * SECOND / rate);
    /* A thread that was woken late may catch up, a peer that paused may not. */
    if (*due < clock - SECOND / 40)
        *due = clock - SECOND / 40;
    if (*due > clock)
        sleep_until(*due);
}

/* --- bytes of a connection ------------------------------------------------------------ */

struct connection {
    int fd;
    SSL *ssl;
    double rate;      /* bytes a second; 0 for no limit */
    size_t step;      /* bytes at a time, so that the rate is smooth */
    int64_t in, out;  /* when each direction is free again */
    bool counted, busy, broken;
    size_t start, end; /* of what was received and not yet used */
    uint8_t buffer[BUFFER];
    char head[HEAD_MAX + 1];
};

struct request {
    char *method, *path, *query, *range;
    uint64_t length;
    bool is_head, chunked, expects, closes;
};

static ssize_t receive(struct connection *c, void *to, size_t most, int flags)
{
    ssize_t got;
    if (c->ssl)
        got = SSL_read(c->ssl, to, (int)most);
    else
        do
            got = recv(c->fd, to, most, flags);
        while (got < 0 && errno == EINTR);
    if (got <= 0)
        c->broken = true;
    return got;
}

static bool fill(struct connection *c)
{
    if (c->start == c->end)
        c->start = c->end = 0;
    ssize_t got = receive(c, c->buffer + c->end, LEAST(BUFFER - c->end, c->step), 0);
    if (got > 0)
        c->end += (size_t)got;
    return got > 0;
}

static bool deliver(struct connection *c, const void *data, size_t size, int flags)
{
    const char *at = data;
    while (size && !c->broken) {
        ssize_t done = c->ssl ? SSL_write(c->ssl, at, (int)size)
                              : send(c->fd, at, size, MSG_NOSIGNAL | flags);
        if (done <= 0 && !(done < 0 && !c->ssl && errno == EINTR))
            c->broken = true;
        if (done > 0)
            at += done, size -= (size_t)done;
    }
    return !c->broken;
}

/* --- bodies ---------------------------------------------------------------------------- */

/* Takes at most *left* bytes of a body; returns how many. */
static size_t take(struct connection *c, uint64_t left, uint64_t *crc)
{
    uint64_t most = LEAST(left, c->step);
    size_t got = LEAST(c->end - c->start, most);
    if (!got && !option.crc && !c->ssl) {
        /* Throws them away within the kernel: nothing is copied. */
        int all = c->rate ? 0 : MSG_WAITALL;
        ssize_t gone = receive(c, c->buffer, most, MSG_TRUNC | all);
        got = gone > 0 ? (size_t)gone : 0;
        c->start = c->end = 0;
    } else {
        if (!got) {
            c->start = c->end = 0;
            ssize_t came = receive(c, c->buffer, most, 0);
            c->end = got = came > 0 ? (size_t)came : 0;
        }
        if (option.crc)
            *crc = crc64(*crc, c->buffer + c->start, got);
        c->start += got;
    }
    pace(&c->in, c->rate, got);
    return got;
}

static void tell_to_continue(struct connection *c, const struct request *r)
{
    if (r->expects && c->start == c->end && r->length)
        deliver(c, "HTTP/1.1 100 Continue\r\n\r\n", 25, 0);
    if (c->in < now())
        c->in = now(); /* time without a body is not saved up */
}

/* Takes the whole body; counts it if *counted*. Returns its CRC-64. */
static uint64_t take_all(struct connection *c, const struct request *r, bool counted)
{
    uint64_t crc = 0;
    tell_to_continue(c, r);
    for (uint64_t left = r->length; left && !c->broken;) {
        size_t got = take(c, left, &crc);
        left -= got;
        if (counted)
            count.bytes += got;
    }
    if (counted && option.crc && !c->broken)
        count.crc64 ^= crc;
    return crc;
}

/* --- heads ----------------------------------------------------------------------------- */

static int from_hex(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    digit |= 32;
    return digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
}

static void decode_percent(char *text)
{
    char *to = text;
    for (; *text; text++) {
        int high = *text == '%' ? from_hex(text[1]) : -1;
        int low = high >= 0 ? from_hex(text[2]) : -1;
        if (low >= 0 && (high || low)) {
            *to++ = (char)(high << 4 | low);
            text += 2;
        } else {
            *to++ = *text;
        }
    }
    *to = 0;
}

static void read_header(struct request *r, const char *name, char *value)
{
    if (!strcasecmp(name, "Content-Length"))
        r->length = strtoull(value, NULL, 10);
    else if (!strcasecmp(name, "Transfer-Encoding"))
        r->chunked = strcasestr(value, "chunked");
    else if (!strcasecmp(name, "Expect"))
        r->expects = strcasestr(value, "100-continue");
    else if (!strcasecmp(name, "Connection"))
        r->closes = strcasestr(value, "close") ||
                    (r->closes && !strcasestr(value, "keep-alive"));
    else if (!strcasecmp(name, "Range"))
        r->range = value;
}

/* Reads one head into *r*: 1; 0 if the connection ended, -1 if it is no HTTP, -2 if it
 * is too long. */
static int read_head(struct connection *c, struct request *r)
{
    if (c->start) { /* what was sent ahead goes to the front, so that a head fits */
        memmove(c->buffer, c->buffer + c->start, c->end - c->start);
        c->end -= c->start;
        c->start = 0;
    }
    uint8_t *found;
    size_t seen = 0;
    while (!(found = memmem(c->buffer + seen, c->end - seen, "\r\n\r\n", 4))) {
        seen = c->end > 3 ? c->end - 3 : 0;
        if (c->end > HEAD_MAX)
            return -2;
        if (!fill(c))
            return 0;
    }
    size_t size = (size_t)(found - c->buffer) + 2;
    if (size > HEAD_MAX)
        return -2;
    memcpy(c->head, c->buffer, size);
    c->head[size] = 0;
    c->start = size + 2;
    memset(r, 0, sizeof *r);
    if (strlen(c->head) != size)
        return -1;
    char *place, *line = strtok_r(c->head, "\r\n", &place), *rest;
    r->method = line ? strtok_r(line, " ", &rest) : NULL;
    r->path = r->method ? strtok_r(NULL, " ", &rest) : NULL;
    char *version = r->path ? strtok_r(NULL, " ", &rest) : NULL;
    if (!version || strncmp(version, "HTTP/1.", 7))
        return -1;
    if (*r->path != '/')
        return -1;
    r->closes = version[7] == '0';
    r->is_head = !strcmp(r->method, "HEAD");
    while ((line = strtok_r(NULL, "\r\n", &place))) {
        char *value = strchr(line, ':');
        if (!value)
            return -1;
        *value++ = 0;
        read_header(r, line, value + strspn(value, " \t"));
    }
    r->query = strchr(r->path, '?');
    if (r->query)
        *r->query++ = 0;
    decode_percent(r->path);
    return 1;
}

/* The value of a parameter, up to '&'; NULL if the query has none of that name. */
static const char *parameter(const struct request *r, const char *name)
{
    size_t length = strlen(name);
    for (const char *at = r->query; at; at = strchr(at, '&') ? strchr(at, '&') + 1 : NULL)
        if (!strncmp(at, name, length) && strchr("=&", at[length]))
            return at + length + (at[length] == '=');
    return NULL;
}

/* --- answers --------------------------------------------------------------------------- */

static const char *http_date(void)
{
    static _Thread_local time_t last;
    static _Thread_local char text[40];
    struct tm parts;
    time_t clock = time(NULL);
    if (clock != last)
        strftime(text, sizeof text, "%a, %d %b %Y %T GMT", gmtime_r(&clock, &parts));
    last = clock;
    return text;
}

/* What the client gets next may make it ask again: so it is no longer busy before. */
static void no_longer_busy(struct connection *c)
{
    if (c->busy)
        count.busy--;
    c->busy = false;
}

static size_t write_head(char *to, size_t room, const struct request *r, int status,
                         const char *headers, uint64_t length)
{
    const char *reason = status < 300 ? "OK" : "Refused", *closing = "";
    char size[48] = "";
    if (status != 204)
        snprintf(size, sizeof size, "Content-Length: %" PRIu64 "\r\n", length);
    if (r->closes)
        closing = "Connection: close\r\n";
    return (size_t)snprintf(to, room,
                            "HTTP/1.1 %d %s\r\nServer: sink\r\nDate: %s\r\n"
                            "x-oss-request-id: 51%022llX\r\n%s%s%s\r\n",
                            status, reason, http_date(), ++last_request, size, closing,
                            headers);
}

static void answer(struct connection *c, const struct request *r, int status,
                   const char *headers, const char *body)
{
    char reply[8192];
    size_t size = write_head(reply, sizeof reply, r, status, headers, strlen(body));
    if (!r->is_head)
        size += (size_t)snprintf(reply + size, sizeof reply - size, "%s", body);
    no_longer_busy(c);
    deliver(c, reply, LEAST(size, sizeof reply - 1), 0);
}

static void answer_error(
    struct connection *c, const struct request *r, int status, const char *code)
{
    char body[256];
    snprintf(body, sizeof body, "<Error><Code>%s</Code><Message>%s</Message></Error>",
             code, code);
    answer(c, r, status, "Content-Type: application/xml\r\n", body);
}

/* Reads "bytes=a-b": 206 if it chooses bytes of the object, 416 if none, 200 if it is
 * something else, several ranges for example. */
static int choose(const char *range, uint64_t size, uint64_t *from, uint64_t *to)
{
    unsigned long long a, b;
    int used = 0;
    *from = 0, *to = size;
    if (!range || strncmp(range, "bytes=", 6) || strchr(range, ','))
        return 200;
    range += 6;
    if (sscanf(range, "-%llu%n", &b, &used) == 1 && !range[used]) {
        *from = size - LEAST(b, size);
        return *from < size ? 206 : 416;
    }
    int numbers = sscanf(range, "%llu-%llu", &a, &b);
    if (numbers < 1 || *range == '-')
        return 200;
    if (a >= size)
        return 416;
    *from = a;
    if (numbers == 2 && b < size)
        *to = b + 1;
    return *from < *to ? 206 : 200;
}

/* Answers GET and HEAD of an object. */
static void answer_object(struct connection *c, const struct request *r)
{
    struct object found;
    if (!look_up(r->path, !r->is_head, &found)) {
        answer_error(c, r, 404, "NoSuchKey");
        return;
    }
    uint64_t from, to;
    int status = choose(r->range, found.size, &from, &to);
    char headers[1024], head[2048];
    int at = snprintf(headers, sizeof headers,
                      "Content-Type: application/octet-stream\r\nETag: " ETAG "\r\n"
                      "Last-Modified: %s\r\nAccept-Ranges: bytes\r\n"
                      "x-oss-object-type: Normal\r\n",
                      started);
    if (!r->is_head || found.has_crc)
        at += snprintf(headers + at, sizeof headers - (size_t)at,
                       "x-oss-hash-crc64ecma: %" PRIu64 "\r\n",
                       r->is_head ? found.crc : found.pattern_crc);
    if (status == 416) {
        snprintf(headers, sizeof headers, "Content-Range: bytes */%" PRIu64 "\r\n",
                 found.size);
        answer(c, r, status, headers, "");
        return;
    }
    if (status == 206)
        snprintf(headers + at, sizeof headers - (size_t)at,
                 "Content-Range: bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64 "\r\n", from,
                 to - 1, found.size);
    size_t size = write_head(head, sizeof head, r, status, headers, to - from);
    bool bare = r->is_head || from == to;
    if (bare)
        no_longer_busy(c);
    deliver(c, head, size, bare ? 0 : MSG_MORE);
    if (c->out < now())
        c->out = now();
    size_t most = c->rate ? LEAST(WRITE, c->step) : WRITE;
    while (!bare && from < to && !c->broken) {
        size_t piece = LEAST(most, to - from);
        pace(&c->out, c->rate, piece);
        count.sent += piece;
        if (from + piece == to)
            no_longer_busy(c);
        deliver(c, pattern + from % PERIOD, piece, 0);
        from += piece;
    }
}

/* --- verbs ----------------------------------------------------------------------------- */

static void escape(char *to, size_t room, const char *text)
{
    char *end = to + room - 8;
    for (; *text && to < end; text++)
        if (strchr("&<>", *text))
            to += sprintf(to, "&#%d;", *text);
        else
            *to++ = *text;
    *to = 0;
}

/* Our upload IDs end in a number of 16 hexadecimal digits; others are let pass. */
static uint64_t upload_number(const struct request *r)
{
    const char *id = parameter(r, "uploadId");
    return id && strcspn(id, "&") == 32 ? strtoull(id + 16, NULL, 16) : 0;
}

static void store_part(const struct request *r, uint64_t size, uint64_t crc)
{
    const char *text = parameter(r, "partNumber");
    long number = text ? strtol(text, NULL, 10) : 0;
    if (number < 1 || number > MAX_PARTS)
        return;
    pthread_mutex_lock(&lock);
    struct upload *there = *upload_slot(upload_number(r));
    if (there && there->room < number) {
        int room = (int)LEAST(2 * number + 16, MAX_PARTS);
        there->parts = must(realloc(there->parts, sizeof(struct part) * (size_t)room));
        memset(there->parts + there->room, 0,
               sizeof(struct part) * (size_t)(room - there->room));
        there->room = room;
    }
    if (there)
        there->parts[number - 1] = (struct part){size, crc};
    pthread_mutex_unlock(&lock);
}

/* Joins all parts that came, whichever of them the body names. */
static bool join_parts(const struct request *r, struct object *made)
{
    *made = (struct object){.has_crc = option.crc};
    pthread_mutex_lock(&lock);
    struct upload **slot = upload_slot(upload_number(r));
    bool known = *slot;
    if (known) {
        for (int i = 0; i < (*slot)->room; i++) {
            const struct part *part = &(*slot)->parts[i];
            made->size += part->size;
            if (option.crc)
                made->crc = combine(made->crc, part->crc, part->size);
        }
        forget_upload(slot);
    }
    pthread_mutex_unlock(&lock);
    return known;
}

static void answer_initiate(struct connection *c, const struct request *r)
{
    struct upload *made = must(calloc(1, sizeof *made));
    made->id = ++last_upload;
    char id[33], key[5120], body[6144];
    snprintf(id, sizeof id, "%016X%016" PRIX64, (unsigned)getpid(), made->id);
    pthread_mutex_lock(&lock);
    struct upload **slot = &uploads[made->id % 256];
    made->next = *slot;
    *slot = made;
    pthread_mutex_unlock(&lock);
    char *slash = strchr(r->path + 1, '/');
    int bucket = (int)(slash ? slash - r->path - 1 : 0);
    escape(key, sizeof key, slash ? slash + 1 : r->path + 1);
    snprintf(body, sizeof body,
             "<InitiateMultipartUploadResult><Bucket>%.*s</Bucket><Key>%s</Key>"
             "<UploadId>%s</UploadId></InitiateMultipartUploadResult>",
             LEAST(bucket, 64), r->path + 1, key, id);
    count.initiated++;
    answer(c, r, 200, "Content-Type: application/xml\r\n", body);
}

static void answer_complete(struct connection *c, const struct request *r)
{
    struct object made;
    char headers[256], key[5120], body[6144];
    bool known = join_parts(r, &made);
    int at = snprintf(headers, sizeof headers, "Content-Type: application/xml\r\n");
    if (known) {
        remember(r->path, &made);
        if (option.crc)
            snprintf(headers + at, sizeof headers - (size_t)at,
                     "x-oss-hash-crc64ecma: %" PRIu64 "\r\n", made.crc);
    }
    escape(key, sizeof key, r->path + 1);
    snprintf(body, sizeof body,
             "<CompleteMultipartUploadResult><Location>/%s</Location><ETag>" ETAG "</ETag>"
             "</CompleteMultipartUploadResult>",
             key);
    count.completed++;
    answer(c, r, 200, headers, body);
}

/* Answers PutObject and UploadPart, after their body. */
static void answer_bytes(struct connection *c, const struct request *r, uint64_t crc)
{
    struct object made = {.size = r->length, .crc = crc, .has_crc = option.crc};
    char headers[256];
    if (parameter(r, "uploadId")) {
        count.parts++;
        store_part(r, r->length, crc);
    } else {
        count.puts++;
        remember(r->path, &made);
    }
    int at = snprintf(headers, sizeof headers, "ETag: " ETAG "\r\n");
    if (option.crc)
        snprintf(headers + at, sizeof headers - (size_t)at,
                 "x-oss-hash-crc64ecma: %" PRIu64 "\r\n", crc);
    answer(c, r, 200, headers, "");
}

static void answer_delete(struct connection *c, const struct request *r)
{
    pthread_mutex_lock(&lock);
    if (parameter(r, "uploadId")) {
        struct upload **slot = upload_slot(upload_number(r));
        if (*slot)
            forget_upload(slot);
    } else {
        forget(object_slot(r->path));
    }
    pthread_mutex_unlock(&lock);
    count.deletes++;
    answer(c, r, 204, "", "");
}

/* Answers the harness; neither counted nor delayed. */
static void answer_control(struct connection *c, const struct request *r)
{
    char body[1024] = "{}";
    if (!strcmp(r->path, "/__reset")) {
        unsigned long long open = count.open_connections;
        count.requests = count.puts = count.parts = count.gets = count.heads = 0;
        count.initiated = count.completed = count.deletes = 0;
        count.bytes = count.sent = count.crc64 = count.max_busy = 0;
        count.connections = open;
        pthread_mutex_lock(&lock);
        for (size_t slot = 0; slot < SLOTS; slot++)
            while (objects[slot])
                forget(&objects[slot]);
        pthread_mutex_unlock(&lock);
    } else {
#define SHOWN(name) "\"" #name "\": %llu, "
        snprintf(body, sizeof body,
                 "{" SHOWN(requests) SHOWN(puts) SHOWN(parts) SHOWN(gets) SHOWN(heads)
                     SHOWN(initiated) SHOWN(completed) SHOWN(deletes)
                         SHOWN(bytes) SHOWN(sent) SHOWN(connections)
                             SHOWN(open_connections) SHOWN(crc64) "\"max_busy\": %llu}",
                 count.requests, count.puts, count.parts, count.gets, count.heads,
                 count.initiated, count.completed, count.deletes,
                 count.bytes, count.sent, count.connections, count.open_connections,
                 count.crc64, count.max_busy);
    }
    answer(c, r, 200, "Content-Type: application/json\r\n", body);
}

static void begin(struct connection *c)
{
    if (!c->counted) {
        count.connections++;
        count.open_connections++;
    }
    c->counted = c->busy = true;
    count.requests++;
    unsigned long long busy = ++count.busy, most = count.max_busy;
    while (busy > most && !atomic_compare_exchange_weak(&count.max_busy, &most, busy))
        ;
}

static void serve(struct connection *c, struct request *r)
{
    if (!strncmp(r->path, "/__", 3)) {
        take_all(c, r, false);
        answer_control(c, r);
        return;
    }
    begin(c);
    const char *slash = strchr(r->path + 1, '/');
    bool object = slash && slash[1], put = object && !strcmp(r->method, "PUT");
    bool post = object && !strcmp(r->method, "POST");
    if (r->chunked) {
        answer_error(c, r, 411, "MissingContentLength");
        c->broken = true;
        return;
    }
    uint64_t crc = take_all(c, r, put);
    if (c->broken)
        return;
    if (option.latency)
        sleep_until(now() + (int64_t)(option.latency * 1e6));
    if (put) {
        answer_bytes(c, r, crc);
    } else if (post && parameter(r, "uploads")) {
        answer_initiate(c, r);
    } else if (post && parameter(r, "uploadId")) {
        answer_complete(c, r);
    } else if (!strcmp(r->method, "DELETE")) {
        answer_delete(c, r);
    } else if (object && (r->is_head || !strcmp(r->method, "GET"))) {
        (r->is_head ? &count.heads : &count.gets)[0]++;
        answer_object(c, r);
    } else {
        answer_error(c, r, 405, "MethodNotAllowed");
    }
}

static void *run(void *given)
{
    struct connection *c = given;
    struct request request = {.closes = true};
    prctl(PR_SET_TIMERSLACK, 1UL); /* sleeps end when they should */
    if (option.tls) {
        c->ssl = SSL_new(option.tls);
        if (!c->ssl || !SSL_set_fd(c->ssl, c->fd) || SSL_accept(c->ssl) != 1)
            c->broken = true;
    }
    while (!c->broken) {
        int found = read_head(c, &request);
        if (found < 0) {
            request = (struct request){.closes = true};
            answer_error(c, &request, found == -1 ? 400 : 431, "InvalidRequest");
        } else if (found) {
            serve(c, &request);
        }
        no_longer_busy(c);
        if (!found || request.closes)
            break;
    }
    if (c->counted)
        count.open_connections--;
    if (c->ssl) {
        if (!c->broken)
            SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
    }
    shutdown(c->fd, SHUT_WR);
    if (request.path == NULL) { /* refused: what still comes would reset the answer */
        struct timeval limit = {.tv_sec = 1};
        setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        for (int i = 0; i < 64 && recv(c->fd, c->buffer, BUFFER, 0) > 0; i++)
            ;
    }
    close(c->fd);
    free(c);
    return NULL;
}

/* --- the program ----------------------------------------------------------------------- */

static void end(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

static void fail(const char *what)
{
    fprintf(stderr, "sink: %s: %s\n", what, errno ? strerror(errno) : "refused");
    exit(1);
}

static SSL_CTX *make_tls(const char *certificate, const char *key)
{
    SSL_CTX *made = SSL_CTX_new(TLS_server_method());
    errno = 0;
    if (!made || SSL_CTX_use_certificate_chain_file(made, certificate) != 1)
        fail(certificate);
    if (!key || SSL_CTX_use_PrivateKey_file(made, key, SSL_FILETYPE_PEM) != 1)
        fail(key ? key : "-k");
    SSL_CTX_set_mode(made, SSL_MODE_AUTO_RETRY);
    if (!option.rate) { /* several records a system call; with -b the sender waits */
        SSL_CTX_set_read_ahead(made, 1);
        SSL_CTX_set_default_read_buffer_len(made, BUFFER);
    }
    return made;
}

static int listen_on(int port)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    /* Before listen(), for accepted sockets inherit it and tell their peers so. Without
     * a limit the kernel finds the best size by itself. */
    if (option.rate) {
        int room = (int)LEAST(1 << 20, 65536 + option.rate / 100), segment = room / 16;
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
        /* The 64 KiB of the loopback would fill it at once, and then wait for timers. */
        setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
    }
    struct sockaddr_in place = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof place;
    if (bind(fd, (struct sockaddr *)&place, size) || listen(fd, 4096) ||
        getsockname(fd, (struct sockaddr *)&place, &size))
        fail("bind");
    printf("%d\n", ntohs(place.sin_port));
    fflush(stdout);
    return fd;
}

static void accept_one(int listener, const pthread_attr_t *attributes)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct connection *c = must(calloc(1, sizeof *c));
    c->fd = fd;
    c->rate = option.rate;
    c->step = BUFFER;
    if (c->rate && c->rate / 200 < BUFFER) /* 5 ms */
        c->step = c->rate < 200 * 1024 ? 1024 : (size_t)(c->rate / 200);
    pthread_t thread;
    if (pthread_create(&thread, attributes, run, c)) {
        close(fd);
        free(c);
    }
}

int main(int argc, char **argv)
{
    const char *certificate = NULL, *key = NULL;
    int chosen, port = 0;
    bool watch = false;
    while ((chosen = getopt(argc, argv, "p:l:b:g:c:k:Cw")) != -1) {
        switch (chosen) {
        case 'p': port = atoi(optarg); break;
        case 'l': option.latency = strtod(optarg, NULL); break;
        case 'b': option.rate = strtod(optarg, NULL); break;
        case 'g': option.size = strtoull(optarg, NULL, 10); break;
        case 'c': certificate = optarg; break;
        case 'k': key = optarg; break;
        case 'C': option.crc = true; break;
        case 'w': watch = true; break;
        default: return 2;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGTERM, end);
    signal(SIGINT, end);
    prepare_crc();
    prepare_pattern();
    strcpy(started, http_date());
    if (certificate)
        option.tls = make_tls(certificate, key);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, 256 * 1024);
    struct pollfd ready[2] = {{.fd = listen_on(port), .events = POLLIN},
                              {.fd = watch ? 0 : -1, .events = POLLIN}};
    for (char byte;;) {
        if (poll(ready, 2, -1) < 0)
            continue;
        if (ready[1].revents && read(0, &byte, 1) <= 0)
            _exit(0);
        if (ready[0].revents)
            accept_one(ready[0].fd, &attributes);
    }
}
