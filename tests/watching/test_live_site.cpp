// Access to a live page, the source of its token, and its address.
#include "watching/live_site.hpp"

#include "config/error_text.hpp"
#include "config/schema.hpp"
#include "watching/page.hpp"
#include "watching/serve_token.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <netinet/in.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace spikefloss {
namespace {

namespace fs = std::filesystem;
const std::string token = "a+token&of%a/test";

class LiveSiteTest : public testing::Test {
protected:
    LiveSiteTest() : place_(fs::temp_directory_path() / ("spikefloss_site_" + std::to_string(::getpid()))) {
        fs::create_directories(place_);
        std::ofstream(place_ / "config.toml") << to_toml(Config(), false);
        std::ofstream(place_ / "metrics.jsonl")
            << R"({"step":5,"floss_step":2,"kind":"training","loss":0.5,"accuracy":0.2,"running_accuracy":0.1,"seconds":1})"
            << "\nbroken\n";
    }
    ~LiveSiteTest() override {
        ::unsetenv(token_variable);
        fs::remove_all(place_);
    }
    std::string file(const char* name, const std::string& text, mode_t mode) const {
        const std::string path = (place_ / name).string();
        std::ofstream(path) << text;
        ::chmod(path.c_str(), mode);
        return path;
    }
    static ServeConfig served() {
        ServeConfig config;
        config.port = 8080;
        return config;
    }

    fs::path place_;
};

HttpRequest request(const std::string& target, const std::string& host = "localhost",
                    const std::string& authorization = "") {
    const std::size_t mark = target.find('?');
    return {"GET", target.substr(0, mark), mark == std::string::npos ? "" : target.substr(mark + 1), host,
            authorization};
}

TEST_F(LiveSiteTest, answers) {
    LiveSite site("", place_.string(), [] { return LiveStatus{6, 2, 100, 3, 50.0}; });
    const HttpResponse page = site.answer(request("/")), data = site.answer(request("/data"));
    EXPECT_EQ(page.status, 200);
    EXPECT_EQ(data.status, 200);
    EXPECT_EQ(data.type, "application/json");
    const auto json = RunRecords::Json::parse(data.body);
    EXPECT_EQ(json["status"]["step"], 6);
    EXPECT_EQ(json["metrics"]["lines"].size(), 1u);
    EXPECT_EQ(json["damage"], "damaged and left out: 1 line of metrics.jsonl");
    EXPECT_EQ(site.answer(request("/../config.toml")).status, 404);
    if (has_prometheus()) {
        EXPECT_NE(site.answer(request("/metrics")).body.find("\nspikefloss_training_steps 6\n"), std::string::npos);
    }
    if (!has_charts()) return;
    ASSERT_EQ(page.headers.size(), 1u);
    EXPECT_EQ(page.headers[0].first, "Content-Security-Policy");
    EXPECT_EQ(page.headers[0].second, page_policy() + "; frame-ancestors 'none'");
}

TEST_F(LiveSiteTest, without_a_token_only_names_of_this_machine) {
    LiveSite site("", place_.string(), [] { return LiveStatus(); });
    for (const char* host : {"localhost", "127.0.0.1:8080", "[::1]:8080"})
        EXPECT_EQ(site.answer(request("/data", host)).status, 200) << host;
    for (const char* host : {"", "evil.com", "[::1].evil.com", "localhost:evil.com", ":80"})
        EXPECT_EQ(site.answer(request("/data", host)).status, 403) << host;
}

TEST_F(LiveSiteTest, with_a_token_only_who_shows_it) {
    LiveSite site(token, place_.string(), [] { return LiveStatus(); });
    const std::string query = "?token=a%2Btoken%26of%25a/test";
    for (const char* path : {"/", "/data", "/metrics", "/nothing"}) {
        EXPECT_EQ(site.answer(request(path)).status, 401) << path;
        EXPECT_EQ(site.answer(request(path + std::string("?token=wrong"))).status, 401) << path;
        EXPECT_EQ(site.answer(request(path, "localhost", token)).status, 401) << path;
        EXPECT_NE(site.answer(request(path + query, "node7")).status, 401) << path;
        EXPECT_NE(site.answer(request(path, "node7", "Bearer " + token)).status, 401) << path;
    }
}

TEST_F(LiveSiteTest, the_token_is_from_key_file_or_environment) {
    ServeConfig config = served();
    EXPECT_EQ(token_of(config, {}).token, "");
    ::setenv(token_variable, "from-the-environment", 1);
    EXPECT_EQ(token_of(config, {}).token, "from-the-environment");
    config.token_file = file("token", "from-the-file\r\nmore\n", 0600);
    EXPECT_EQ(token_of(config, {}).token, "from-the-file");
    EXPECT_EQ(token_of(config, {}).warning, "");
    config.token = "from-the-key";
    EXPECT_EQ(token_of(config, {}).token, "from-the-key");
    config.port = 0;
    EXPECT_EQ(token_of(config, {}).token, "");
}

TEST_F(LiveSiteTest, what_is_wrong_with_a_token_is_told_without_it) {
    ServeConfig config = served();
    config.token_file = file("open", "from-the-file\n", 0644);
    EXPECT_HAS(token_of(config, {}).warning, "chmod 600 " + config.token_file);
    EXPECT_EQ(token_of(config, {}).warning.find("from-the-file"), std::string::npos);
    for (const char* assignment : {"serve.token=from-the-option", " serve.token = \"from-the-option\""}) {
        const std::string warning = token_of(served(), {"train.steps=5", assignment}).warning;
        EXPECT_HAS(warning, "ps");
        EXPECT_EQ(warning.find("from-the-option"), std::string::npos);
    }
    EXPECT_EQ(token_of(served(), {"serve.token_file=x"}).warning, "");
    for (const char* content : {"", "short\n", "with a blank in it\n", "\nsecond-line\n"}) {
        config.token_file = file("bad", content, 0600);
        EXPECT_HAS(usage_error([&] { token_of(config, {}); }), "is easy to guess");
    }
    config.token_file = (place_ / "missing").string();
    EXPECT_HAS(usage_error([&] { token_of(config, {}); }), "No such file");
    config.token_file = (place_ / "fifo").string();
    ::mkfifo(config.token_file.c_str(), 0600);
    EXPECT_HAS(usage_error([&] { token_of(config, {}); }), "not a regular file");
    config.token_file = "";
    ::setenv(token_variable, "short", 1);
    EXPECT_HAS(usage_error([&] { token_of(config, {}); }), "environment variable SPIKEFLOSS_TOKEN is easy to guess");
}

TEST_F(LiveSiteTest, the_token_is_in_no_text_of_the_config) {
    Config config;
    set_key("serve.token=a-secret-text", config);
    EXPECT_EQ(config.serve.token, "a-secret-text");
    EXPECT_EQ(to_toml(config, true).find("a-secret-text"), std::string::npos);
    for (const char* assignment :
         {"serve.token=[a-secret-text]", "serve.tokn=a-secret-text", "serv.token=a-secret-text"})
        EXPECT_EQ(usage_error([&] { set_key(assignment, config); }).find("a-secret-text"), std::string::npos)
            << assignment;
    EXPECT_NE(usage_error([&] { set_key("train.stepz=a-plain-text", config); }).find("a-plain-text"),
              std::string::npos);
}

TEST(Address, is_what_a_browser_takes) {
    EXPECT_EQ(url_of("127.0.0.1", 8080), "http://127.0.0.1:8080/");
    EXPECT_EQ(url_of("::1", 8080), "http://[::1]:8080/");
    for (const char* all : {"0.0.0.0", "::"}) {
        const std::string url = url_of(all, 80);
        EXPECT_EQ(url.find(all), std::string::npos) << url;
        EXPECT_GT(url.size(), std::string("http://:80/").size()) << url;
    }
}

TEST(Address, a_port_in_use) {
    std::int64_t port = 0;
    const Socket first = listen_at("127.0.0.1", port, 0);
    sockaddr_in place{};
    socklen_t size = sizeof place;
    ::getsockname(first.get(), reinterpret_cast<sockaddr*>(&place), &size);
    port = ntohs(place.sin_port);
    std::int64_t same = port;
    const std::string text = usage_error([&] { listen_at("127.0.0.1", same, 0); });
    EXPECT_HAS(text, "serve.port = " + std::to_string(port) + ": Address already in use");
    std::int64_t next = port;
    const Socket second = listen_at("127.0.0.1", next, 99);
    EXPECT_TRUE(static_cast<bool>(second));
    EXPECT_GT(next, port);
    EXPECT_LE(next, port + 99);
    std::int64_t any = 0;
    EXPECT_HAS(usage_error([&] { listen_at("203.0.113.1", any, 99); }), "Cannot assign");
    EXPECT_NE(usage_error([&] { listen_at("no such host", any, 0); }), "");
}

}  // namespace
}  // namespace spikefloss
