/* What the files of the load generator share. Times are nanoseconds of CLOCK_MONOTONIC where nothing else is said. */
#ifndef WSLOAD_H
#define WSLOAD_H

#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#define MAX_PORTS 16
#define SECOND 1000000000ull

/* What it was asked: see the head of wsload.c. */
struct options {
    int ports[MAX_PORTS], port_count;
    int pids[MAX_PORTS], pid_count;
    const char *path, *template, *join, *ready_prefix;
    int connections, handshakes_under_way, publishers, message_bytes, group, under_way;
    int echo, tls, socket_io;
    long churn;
    double idle, saturation, rate_seconds, rate;
};
extern struct options options;

/* wsload_measure.c: clocks, a histogram, and the processes of the server. */

#define BUCKETS 4096

struct histogram {
    uint64_t count, greatest, buckets[BUCKETS];
};

uint64_t now(void);
void histogram_add(struct histogram *histogram, uint64_t value);
double histogram_quantile(const struct histogram *histogram, double quantile); /* microseconds */
double server_cpu(void);                                                       /* seconds, user and system */
double server_memory(void);                                                    /* KiB, resident */
double own_cpu(void);                                                          /* seconds */

/* wsload_connection.c: one WebSocket client. */

enum state { UNUSED, CONNECTING, TLS_HANDSHAKE, UPGRADING, JOINING, OPEN, ENDED };

struct buffer {
    char *data;
    size_t length, capacity;
};

struct connection {
    int descriptor, port, wants_output;
    enum state state;
    SSL *tls;
    struct buffer unparsed, unsent, fragments;
};

/* What all connections together have seen. */
struct counts {
    int open, failed, ended;
    uint64_t received, reads, sent;
    uint64_t last_received;
};
extern struct counts counts;
extern struct connection *connections;

/* Where latencies go, NULL: nowhere; only of messages that were due from `latencies_from` on. */
extern struct histogram *latencies;
extern uint64_t latencies_from;

/* Called when a connection is ready to be used. */
extern void (*on_ready)(struct connection *connection);

void connections_prepare(void);
void connection_start(struct connection *connection);
void connection_reset(struct connection *connection); /* at once, leaving nothing in the kernel */
void connection_publish(struct connection *connection, uint64_t due);
/* Serve all connections until `deadline`, or once if they have something. `nap`: see there. */
void poll_connections(uint64_t deadline, int nap);

/* wsload_phases.c: what is done with them. */

struct report {
    double handshakes, handshake_cpu, memory, idle_cpu;
    double deliveries, delivery_cpu, generator_cpu;
    double p50, p99, rate, rate_cpu;
    uint64_t lost, stalls;
    double churn_memory[11];
    int churn_points;
};

void phase_churn(struct report *report);
void phase_connect(struct report *report);
void phase_saturation(struct report *report);
void phase_rate(struct report *report);

_Noreturn void die(const char *what);

#endif
