/* One WebSocket client (RFC 6455): connecting, the handshake, frames out and in. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "wsload.h"

#define INPUT (1 << 20)
#define MARK "T@"
#define MARK_BYTES 18 /* and sixteen hexadecimal digits: when the message was due */

enum opcode { CONTINUATION = 0, TEXT = 1, CLOSE = 8, PING = 9, PONG = 10 };

struct counts counts;
struct connection *connections;
struct histogram *latencies;
uint64_t latencies_from;
void (*on_ready)(struct connection *connection);

static int epoll;
static char *input, *message_text;
static size_t message_length, time_offset;
static SSL_CTX *tls_context;

void connections_prepare(void) {
    char *payload = malloc(options.message_bytes + 1);
    memset(payload, 'x', options.message_bytes);
    payload[options.message_bytes] = 0;
    memcpy(payload, MARK "0000000000000000", MARK_BYTES);
    const char *template = options.template ? options.template : options.socket_io ? "42[\"m\",\"%s\"]" : "%s";
    const char *hole = strstr(template, "%s");
    if (!hole) {
        fprintf(stderr, "wsload: the template of -f has no %%s\n");
        exit(1);
    }
    message_length = asprintf(&message_text, "%.*s%s%s", (int)(hole - template), template, payload, hole + 2);
    time_offset = hole - template + 2;
    free(payload);
    input = malloc(INPUT);
    connections = calloc(options.connections, sizeof *connections);
    epoll = epoll_create1(0);
    if (!input || !connections || epoll < 0)
        die("prepare");
    if (options.tls) {
        tls_context = SSL_CTX_new(TLS_client_method());
        SSL_CTX_set_verify(tls_context, SSL_VERIFY_NONE, NULL);
        SSL_CTX_set_mode(tls_context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER
                                          | SSL_MODE_RELEASE_BUFFERS);
    }
}

static void buffer_add(struct buffer *buffer, const char *data, size_t length) {
    if (buffer->length + length > buffer->capacity) {
        buffer->capacity = (buffer->length + length) * 2;
        buffer->data = realloc(buffer->data, buffer->capacity);
        if (!buffer->data)
            die("realloc");
    }
    memcpy(buffer->data + buffer->length, data, length);
    buffer->length += length;
}

/* The number that stands for %d in paths and joins: of the room where there are rooms, else of the connection. */
static int number_of(const struct connection *connection) {
    return (int)(connection - connections) / (options.group ? options.group : 1);
}

static void watch(struct connection *connection, int operation) {
    struct epoll_event event = {
        .events = EPOLLIN | (connection->wants_output ? EPOLLOUT : 0),
        .data.ptr = connection,
    };
    if (epoll_ctl(epoll, operation, connection->descriptor, &event))
        die("epoll_ctl");
}

static void release(struct connection *connection) {
    close(connection->descriptor);
    SSL_free(connection->tls);
    connection->tls = NULL;
    connection->unparsed.length = connection->unsent.length = connection->fragments.length = 0;
}

static void end(struct connection *connection) {
    if (connection->state == ENDED)
        return;
    if (connection->state == OPEN)
        counts.open--;
    else
        counts.failed++;
    connection->state = ENDED;
    counts.ended++;
    release(connection);
}

void connection_reset(struct connection *connection) {
    struct linger nothing = {.l_onoff = 1, .l_linger = 0};
    setsockopt(connection->descriptor, SOL_SOCKET, SO_LINGER, &nothing, sizeof nothing);
    counts.open--;
    connection->state = UNUSED;
    release(connection);
}

/* Output */

static ssize_t write_some(struct connection *connection, const char *data, size_t length) {
    if (!connection->tls)
        return send(connection->descriptor, data, length, MSG_NOSIGNAL);
    int written = SSL_write(connection->tls, data, length);
    if (written > 0)
        return written;
    int error = SSL_get_error(connection->tls, written);
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : EPIPE;
    return -1;
}

static void flush(struct connection *connection) {
    struct buffer *unsent = &connection->unsent;
    while (unsent->length) {
        ssize_t written = write_some(connection, unsent->data, unsent->length);
        if (written < 0 && errno != EAGAIN && errno != EINTR) {
            end(connection);
            return;
        }
        if (written < 0)
            break;
        unsent->length -= written;
        memmove(unsent->data, unsent->data + written, unsent->length);
    }
    int wants = unsent->length > 0;
    if (wants != connection->wants_output) {
        connection->wants_output = wants;
        watch(connection, EPOLL_CTL_MOD);
    }
}

static void put(struct connection *connection, const char *data, size_t length) {
    if (connection->state == ENDED)
        return;
    if (!connection->unsent.length) {
        ssize_t written = write_some(connection, data, length);
        if (written == (ssize_t)length)
            return;
        if (written < 0 && errno != EAGAIN && errno != EINTR) {
            end(connection);
            return;
        }
        if (written > 0) {
            data += written;
            length -= written;
        }
    }
    buffer_add(&connection->unsent, data, length);
    flush(connection);
}

static void put_frame(struct connection *connection, enum opcode opcode, const char *data, size_t length) {
    static char frame[1 << 17];
    static const unsigned char mask[4] = {0x37, 0xfa, 0x21, 0x3d};
    size_t head = 2;
    if (length > 65535)
        return;
    frame[0] = (char)(0x80 | opcode);
    if (length < 126) {
        frame[1] = (char)(0x80 | length);
    } else {
        frame[1] = (char)(0x80 | 126);
        frame[2] = (char)(length >> 8);
        frame[3] = (char)length;
        head = 4;
    }
    memcpy(frame + head, mask, 4);
    head += 4;
    for (size_t i = 0; i < length; i++)
        frame[head + i] = (char)(data[i] ^ mask[i & 3]);
    put(connection, frame, head + length);
}

void connection_publish(struct connection *connection, uint64_t due) {
    char digits[17];
    snprintf(digits, sizeof digits, "%016llx", (unsigned long long)due);
    memcpy(message_text + time_offset, digits, 16);
    put_frame(connection, TEXT, message_text, message_length);
    counts.sent++;
}

/* Input */

static void ready(struct connection *connection) {
    if (connection->state == OPEN)
        return;
    connection->state = OPEN;
    counts.open++;
    if (on_ready)
        on_ready(connection);
}

static void delivered(const char *mark, uint64_t time) {
    uint64_t due = 0;
    for (int i = 2; i < MARK_BYTES; i++) {
        unsigned char digit = mark[i];
        due = due << 4 | (digit < 'a' ? digit - '0' : digit - 'a' + 10);
    }
    counts.received++;
    counts.last_received = time;
    if (latencies && due >= latencies_from && time > due)
        histogram_add(latencies, time - due);
}

static void joining(struct connection *connection, const char *text, size_t length) {
    if (!options.socket_io) {
        size_t prefix = strlen(options.ready_prefix);
        if (length >= prefix && !memcmp(text, options.ready_prefix, prefix))
            ready(connection);
    } else if (text[0] == '0') { /* its open packet; ours asks for the namespace */
        put_frame(connection, TEXT, "40", 2);
    } else if (length > 1 && text[0] == '4' && text[1] == '0') {
        ready(connection);
    }
}

static void message(struct connection *connection, char *text, size_t length, uint64_t time) {
    static size_t guess;
    if (connection->state == JOINING) {
        joining(connection, text, length);
        return;
    }
    if (options.socket_io && length == 1 && text[0] == '2') {
        put_frame(connection, TEXT, "3", 1);
        return;
    }
    /* It is nearly always where it was in the message before. */
    char *mark = text + guess;
    if (length < guess + MARK_BYTES || memcmp(mark, MARK, 2))
        mark = memmem(text, length < 512 ? length : 512, MARK, 2);
    if (!mark || mark + MARK_BYTES > text + length)
        return; /* presence, an acknowledgement: not one of ours */
    guess = mark - text;
    delivered(mark, time);
}

static void refused(struct connection *connection, const char *answer, int length) {
    static int said;
    if (!said++)
        fprintf(stderr, "wsload: refused: %.*s\n", length < 300 ? length : 300, answer);
    end(connection);
}

/* The answer to the handshake; how many bytes it has, 0 while it is not whole. */
static size_t upgraded(struct connection *connection, char *data, size_t length) {
    char *blank = memmem(data, length, "\r\n\r\n", 4);
    if (!blank)
        return 0;
    int head = (int)(blank - data);
    if (length < 12 || memcmp(data + 8, " 101", 4) || !memmem(data, head + 2, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", 28)) {
        refused(connection, data, head);
        return length;
    }
    connection->state = JOINING;
    if (options.join && !options.socket_io) {
        char text[4096];
        snprintf(text, sizeof text, options.join, number_of(connection));
        put_frame(connection, TEXT, text, strlen(text));
    }
    if (!options.ready_prefix && !options.socket_io && connection->state != ENDED)
        ready(connection);
    return head + 4;
}

static void fragment(struct connection *connection, int opcode, int final, char *data, size_t length, uint64_t time) {
    if (opcode)
        connection->fragments.length = 0;
    buffer_add(&connection->fragments, data, length);
    if (final)
        message(connection, connection->fragments.data, connection->fragments.length, time);
}

static void frame(struct connection *connection, int first, char *data, size_t length, uint64_t time) {
    int opcode = first & 15, final = first & 128;
    if (opcode == PING)
        put_frame(connection, PONG, data, length);
    else if (opcode == CLOSE)
        end(connection);
    else if (opcode == PONG)
        return;
    else if (final && opcode)
        message(connection, data, length, time);
    else
        fragment(connection, opcode, final, data, length, time);
}

/* How many bytes of `data` were used. */
static size_t parse(struct connection *connection, char *data, size_t length, uint64_t time) {
    size_t used = connection->state == UPGRADING ? upgraded(connection, data, length) : 0;
    while (length - used >= 2 && (connection->state == OPEN || connection->state == JOINING)) {
        unsigned char *head = (unsigned char *)data + used;
        size_t payload = head[1] & 127, head_length = payload == 126 ? 4 : payload == 127 ? 10 : 2;
        if (length - used < head_length)
            break;
        if (head_length > 2) {
            payload = 0;
            for (size_t i = 2; i < head_length; i++)
                payload = payload << 8 | head[i];
        }
        if (head[1] & 128 || payload > INPUT / 2) {
            fprintf(stderr, "wsload: a frame that no server may send\n");
            end(connection);
            return length;
        }
        if (length - used < head_length + payload)
            break;
        used += head_length + payload;
        frame(connection, head[0], (char *)head + head_length, payload, time);
    }
    return used;
}

static ssize_t read_some(struct connection *connection, char *data, size_t length) {
    if (!connection->tls)
        return recv(connection->descriptor, data, length, 0);
    int got = SSL_read(connection->tls, data, length);
    if (got > 0)
        return got;
    int error = SSL_get_error(connection->tls, got);
    errno = EAGAIN;
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? -1 : 0;
}

static void read_input(struct connection *connection) {
    struct buffer *unparsed = &connection->unparsed;
    do { /* what TLS holds decrypted, epoll does not tell of */
        size_t kept = unparsed->length;
        if (kept)
            memcpy(input, unparsed->data, kept);
        ssize_t got = read_some(connection, input + kept, INPUT - kept);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got <= 0) {
            end(connection);
            return;
        }
        counts.reads++;
        size_t length = kept + got, used = parse(connection, input, length, now());
        if (connection->state == ENDED || connection->state == UNUSED)
            return;
        unparsed->length = 0;
        if (used < length)
            buffer_add(unparsed, input + used, length - used);
    } while (connection->tls);
}

/* Beginning */

void connection_start(struct connection *connection) {
    int index = (int)(connection - connections), on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    connection->port = options.ports[index % options.port_count];
    address.sin_port = htons(connection->port);
    connection->descriptor = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->descriptor < 0)
        die("socket");
    setsockopt(connection->descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection->state = CONNECTING;
    connection->wants_output = 1;
    if (connect(connection->descriptor, (struct sockaddr *)&address, sizeof address) && errno != EINPROGRESS)
        die("connect");
    watch(connection, EPOLL_CTL_ADD);
}

static void upgrade(struct connection *connection) {
    char path[1024], request[2048];
    snprintf(path, sizeof path, options.path, number_of(connection));
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
                          path, connection->port);
    connection->state = UPGRADING;
    put(connection, request, length);
}

static void connected(struct connection *connection) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(connection->descriptor, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        refused(connection, strerror(error), 100);
        return;
    }
    connection->wants_output = 0;
    watch(connection, EPOLL_CTL_MOD);
    if (!options.tls) {
        upgrade(connection);
        return;
    }
    connection->tls = SSL_new(tls_context);
    SSL_set_fd(connection->tls, connection->descriptor);
    SSL_set_connect_state(connection->tls);
    connection->state = TLS_HANDSHAKE;
}

static void shake_hands(struct connection *connection) {
    int result = SSL_do_handshake(connection->tls);
    if (result == 1) {
        upgrade(connection);
        return;
    }
    int error = SSL_get_error(connection->tls, result);
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
        refused(connection, "TLS handshake", 13);
}

static void serve(struct connection *connection, uint32_t events) {
    if (connection->state == ENDED || connection->state == UNUSED)
        return;
    if (connection->state == CONNECTING) {
        if (events & (EPOLLOUT | EPOLLERR | EPOLLHUP))
            connected(connection);
        if (connection->state != TLS_HANDSHAKE)
            return;
    }
    if (connection->state == TLS_HANDSHAKE) {
        shake_hands(connection);
        return;
    }
    if (events & EPOLLOUT)
        flush(connection);
    if (connection->state != ENDED && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_input(connection);
}

/* With `nap` it sleeps between polls instead of in them: who must be woken for each message is charged to the server's
 * send(), and at saturation that would measure the generator. */
void poll_connections(uint64_t deadline, int nap) {
    static struct epoll_event events[1024];
    static const struct timespec short_while = {0, 40000};
    uint64_t time = now(), wait = deadline > time && !nap ? deadline - time : 0;
    struct timespec timeout = {wait / SECOND, wait % SECOND};
    int count = epoll_pwait2(epoll, events, 1024, &timeout, NULL);
    if (nap && count < 64)
        nanosleep(&short_while, NULL);
    for (int i = 0; i < count; i++)
        serve(events[i].data.ptr, events[i].events);
}
