// Valid and invalid requests to the live page, down to single bytes.
#include "watching/http_request.hpp"

#include <gtest/gtest.h>

namespace spikefloss {
namespace {

using namespace std::string_literals;

const std::string whole =
    "GET /data?a=1&token=x%2By HTTP/1.1\r\nHost: localhost:8080\r\nauthorization:  Bearer abc \r\n\r\n";

TEST(HttpRequest, takes_a_request_apart) {
    const ParsedRequest parsed = parse_request(whole);
    EXPECT_EQ(parsed.status, 200);
    EXPECT_EQ(parsed.request.method, "GET");
    EXPECT_EQ(parsed.request.path, "/data");
    EXPECT_EQ(parsed.request.query, "a=1&token=x%2By");
    EXPECT_EQ(parsed.request.host, "localhost:8080");
    EXPECT_EQ(parsed.request.authorization, "Bearer abc");
}

TEST(HttpRequest, every_beginning_is_not_whole_yet) {
    for (std::size_t size = 0; size < whole.size(); ++size)
        EXPECT_EQ(parse_request(whole.substr(0, size)).status, 0) << size;
}

TEST(HttpRequest, what_follows_the_headers_is_ignored) {
    for (const std::string& more : {"GET / HTTP/1.1\r\n\r\n"s, "body"s, "\0\n\n\n"s, std::string(1 << 20, 'x')}) {
        const ParsedRequest parsed = parse_request(whole + more);
        EXPECT_EQ(parsed.status, 200);
        EXPECT_EQ(parsed.request.path, "/data");
    }
}

TEST(HttpRequest, refuses_what_is_no_request) {
    const std::pair<std::string, int> cases[] = {
        {"GET / HTTP/1.1\nHost: localhost\n\n", 400},
        {"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /\r\n\r\n", 400},
        {"GET  HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1 \r\n\r\n", 400},
        {"GET / http/1.1\r\n\r\n", 400},
        {"GET / HTTP/11\r\n\r\n", 400},
        {"GET / HTTP/2.0\r\n\r\n", 505},
        {"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400},
        {"GET * HTTP/1.1\r\n\r\n", 400},
        {"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400},
        {"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"s, 400},
        {" GET / HTTP/1.1\r\n\r\n", 400},
        {"\x16\x03\x01\x02\n", 400},
        {"POST / HTTP/1.1\r\n", 405},
        {"get / HTTP/1.1\r\n", 405},
        {"OPTIONS * HTTP/1.1\r\n", 405},
        {"PRI * HTTP/2.0\r\n\r\n", 405},
        {"GET / HTTP/1.1\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nauthorization: b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\n: a\r\n\r\n", 400},
        {"GET / HTTP/1.1\r\nHost: a\0b\r\n\r\n"s, 400},
        {"GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", 400},
    };
    for (const auto& [text, status] : cases) EXPECT_EQ(parse_request(text).status, status) << text;
    EXPECT_EQ(parse_request("HEAD / HTTP/1.0\r\n\r\n").status, 200);
    EXPECT_EQ(parse_request("HEAD / HTTP/1.0\r\nX: a HTTP/1.1\r\n\r\n").status, 200);
}

TEST(HttpRequest, is_refused_at_16_KiB_however_it_is_made) {
    const std::string line = "GET / HTTP/1.1\r\nHost: localhost\r\n";
    const auto padded = [&](std::size_t size) {
        return line + "X: " + std::string(size - line.size() - 7, 'a') + "\r\n\r\n";
    };
    EXPECT_EQ(padded(100).size(), 100u);
    EXPECT_EQ(parse_request(padded(most_request_bytes)).status, 200);
    EXPECT_EQ(parse_request(padded(most_request_bytes + 1)).status, 431);
    EXPECT_EQ(parse_request("GET /" + std::string(most_request_bytes, 'a')).status, 431);
    std::string many = line;
    while (many.size() < most_request_bytes) many += "a:\r\n";
    EXPECT_EQ(parse_request(many).status, 431);
}

TEST(HttpRequest, values_of_a_query) {
    EXPECT_EQ(query_value("a=1&b=2", "b"), "2");
    EXPECT_EQ(query_value("a=1&a=2", "a"), "1");
    EXPECT_EQ(query_value("ab=1&b=", "b"), "");
    EXPECT_EQ(query_value("", "b"), "");
    EXPECT_EQ(query_value("b", "b"), "");
    EXPECT_EQ(query_value("&&=&b=x=y", "b"), "x=y");
    EXPECT_EQ(query_value("token=a%2Bb%26+c%zz%4", "token"), "a+b& c%zz%4");
    EXPECT_EQ(query_value("tok%65n=a", "token"), "a");
}

TEST(HttpRequest, hosts_of_this_machine) {
    for (const char* host : {"localhost", "LocalHost:1", "127.0.0.1", "127.1.2.3:65535", "[::1]", "[::1]:80"})
        EXPECT_TRUE(is_local_host(host)) << host;
    for (const char* host : {"",
                             ":80",
                             "[::1].evil.com",
                             "[::1]evil",
                             "[::1",
                             "[::1]:",
                             "[::1]:x",
                             "localhost:",
                             "localhost:evil.com",
                             "localhost:80.evil.com",
                             "localhost:0",
                             "localhost:65536",
                             "localhost:-1",
                             "localhost:080808",
                             "localhost.evil.com",
                             "127.example.org",
                             "127.0.0.1.evil.com",
                             "127.0.0.1.2",
                             "127.1",
                             "128.0.0.1",
                             "evil.com",
                             "evil.com:8080",
                             "localhost@evil.com",
                             "localhost evil.com",
                             "::1",
                             "[::2]",
                             "0.0.0.0"})
        EXPECT_FALSE(is_local_host(host)) << host;
}

TEST(HttpRequest, secrets) {
    EXPECT_TRUE(same_secret("abcdefgh", "abcdefgh"));
    for (const char* wrong : {"", "abcdefg", "abcdefgi", "Abcdefgh", "abcdefghi"})
        EXPECT_FALSE(same_secret(wrong, "abcdefgh")) << wrong;
}

}  // namespace
}  // namespace spikefloss
