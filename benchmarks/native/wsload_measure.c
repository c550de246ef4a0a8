/* Clocks, a histogram, and what /proc knows of the server's processes and their children. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "wsload.h"

#define MAX_PROCESSES 65536
#define MAX_TREE 4096

uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

/* Exact below 128 ns, then 64 buckets for each power of two. */
void histogram_add(struct histogram *histogram, uint64_t value) {
    int shift = value < 128 ? 0 : 63 - __builtin_clzll(value) - 6;
    histogram->buckets[shift ? 128 + (shift - 1) * 64 + (value >> shift) - 64 : value]++;
    histogram->count++;
    if (value > histogram->greatest)
        histogram->greatest = value;
}

static uint64_t bucket_value(uint64_t index) {
    return index < 128 ? index : ((index - 128) % 64 + 64) << ((index - 128) / 64 + 1);
}

double histogram_quantile(const struct histogram *histogram, double quantile) {
    uint64_t wanted = quantile * histogram->count, seen = 0;
    for (uint64_t i = 0; i < BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > wanted)
            return bucket_value(i) / 1e3;
    }
    return histogram->greatest / 1e3;
}

/* The fields of /proc/PID/stat after the name, which may contain anything. */
static int read_stat(int pid, char *line, size_t size, char **fields) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file)
        return 0;
    char *read = fgets(line, size, file);
    fclose(file);
    *fields = read ? strrchr(line, ')') : NULL;
    return *fields != NULL;
}

static int tree[MAX_TREE], tree_size;

static void find_tree(void) {
    static int pids[MAX_PROCESSES], parents[MAX_PROCESSES];
    int count = 0;
    DIR *directory = opendir("/proc");
    struct dirent *entry;
    while (directory && (entry = readdir(directory)) && count < MAX_PROCESSES) {
        char line[1024], *fields;
        int pid = atoi(entry->d_name);
        if (pid > 0 && read_stat(pid, line, sizeof line, &fields) && sscanf(fields + 4, "%d", &parents[count]) == 1)
            pids[count++] = pid;
    }
    if (directory)
        closedir(directory);
    tree_size = 0;
    for (int i = 0; i < options.pid_count; i++)
        tree[tree_size++] = options.pids[i];
    for (int parent = 0; parent < tree_size; parent++)
        for (int i = 0; i < count; i++)
            if (parents[i] == tree[parent] && tree_size < MAX_TREE)
                tree[tree_size++] = pids[i];
}

double server_cpu(void) {
    double ticks = 0;
    find_tree();
    for (int i = 0; i < tree_size; i++) {
        char line[1024], *fields;
        unsigned long user, system;
        if (read_stat(tree[i], line, sizeof line, &fields)
            && sscanf(fields + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) == 2)
            ticks += user + system;
    }
    return ticks / sysconf(_SC_CLK_TCK);
}

double server_memory(void) {
    double pages = 0;
    find_tree();
    for (int i = 0; i < tree_size; i++) {
        char path[64];
        long all, resident;
        snprintf(path, sizeof path, "/proc/%d/statm", tree[i]);
        FILE *file = fopen(path, "r");
        if (!file)
            continue;
        if (fscanf(file, "%ld %ld", &all, &resident) == 2)
            pages += resident;
        fclose(file);
    }
    return pages * (sysconf(_SC_PAGESIZE) / 1024.0);
}

double own_cpu(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}
