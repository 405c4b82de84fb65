// Records and other files of a run directory, read back: values of a wrong type are left out and counted, and no shown
// text can end an element of a page.
#include "watching/run_records.hpp"

#include "config/schema.hpp"
#include "io/metrics.hpp"
#include "watching/page.hpp"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <limits>

namespace spikefloss {
namespace {

namespace fs = std::filesystem;
using Json = RunRecords::Json;

const std::string tag = R"(<img src=x onerror=\"document.title=1\">)";
const std::string training =
    R"({"step":5,"floss_step":2,"kind":"training","loss":0.5,"accuracy":0.25,"running_accuracy":0.125,"gradient_norm":1.5,)"
    R"("gradient_norms":{"w_rec":1.0},"exponents":[-0.5,null],"rate":0.1,"test_loss":null,"seconds":1.0})";
const std::string diagnosis =
    R"({"step":5,"floss_step":2,"exponents":[-0.1,-0.2],"kaplan_yorke_dimension":0.0,"entropy_rate":0.0,)"
    R"("state_gradient_norm_by_lag":[1.0,0.5],"rate":0.1,"loss":0.5,"accuracy":0.5})";

// The record with one field replaced, or removed.
std::string changed(const std::string& record, const std::string& field, const std::string& value) {
    Json json = Json::parse(record);
    if (value.empty())
        json.erase(field);
    else
        json[field] = Json::parse(value);
    return json.dump();
}

TEST(Records, hold_known_fields_of_known_types) {
    const auto read = read_record(changed(training, "other", "[[1]]"), RecordKind::metrics);
    ASSERT_TRUE(read);
    EXPECT_EQ(*read, Json::parse(training));
    EXPECT_EQ(*read_record(diagnosis, RecordKind::diagnostics), Json::parse(diagnosis));
    // A flossing step has neither loss nor accuracy.
    const std::string flossing = R"({"step":5,"floss_step":2,"kind":"flossing","floss_loss":0.5,"seconds":1})";
    EXPECT_TRUE(read_record(flossing, RecordKind::metrics));
}

TEST(Records, of_other_types_are_none) {
    const std::string text = '"' + tag + '"';
    const Json fields = Json::parse(training), diagnosis_fields = Json::parse(diagnosis);
    for (const char* line : {"", "{", "{}", "null", "5", "[]", "\"step\"", "{\"step\":1e999}", "\xff"}) {
        EXPECT_FALSE(read_record(line, RecordKind::metrics)) << line;
        EXPECT_FALSE(read_record(line, RecordKind::diagnostics)) << line;
    }
    for (const auto& [field, ignored] : fields.items())
        for (const std::string& value : {text, std::string("{\"a\":[]}"), std::string("[[1]]"), std::string("true")})
            EXPECT_FALSE(read_record(changed(training, field, value), RecordKind::metrics)) << field << " " << value;
    for (const auto& [field, ignored] : diagnosis_fields.items())
        for (const std::string& value : {text, std::string("{\"a\":[]}"), std::string("[[1]]"), std::string("true")})
            EXPECT_FALSE(read_record(changed(diagnosis, field, value), RecordKind::diagnostics))
                << field << " " << value;
    for (const char* field : {"step", "floss_step", "kind", "loss", "seconds"})
        EXPECT_FALSE(read_record(changed(training, field, ""), RecordKind::metrics)) << field;
    for (const char* field : {"step", "floss_step", "exponents"})
        EXPECT_FALSE(read_record(changed(diagnosis, field, ""), RecordKind::diagnostics)) << field;
    for (const char* step : {"-1", "1.5", "5.0", "null", "9007199254740993", "18446744073709551615"})
        EXPECT_FALSE(read_record(changed(training, "step", step), RecordKind::metrics)) << step;
    EXPECT_FALSE(read_record(changed(training, "kind", "\"other\""), RecordKind::metrics));
    // Nested deeper than the stack allows.
    EXPECT_FALSE(read_record(std::string(300000, '[') + std::string(300000, ']'), RecordKind::metrics));
}

TEST(Records, confusion) {
    const std::string text = R"({"step":9,"data":"test","classes":["a","<b>"],"counts":[[3,0],[1,2]]})";
    EXPECT_EQ(*read_confusion(text), Json::parse(text));
    EXPECT_TRUE(read_confusion(changed(text, "classes", "")));
    for (const auto& [field, value] :
         std::initializer_list<std::pair<const char*, const char*>>{{"step", "-1"},
                                                                    {"data", "5"},
                                                                    {"data", ""},
                                                                    {"classes", "[\"a\"]"},
                                                                    {"classes", "[1,2]"},
                                                                    {"classes", "\"ab\""},
                                                                    {"counts", "[]"},
                                                                    {"counts", "[[1,2]]"},
                                                                    {"counts", "[[1,2],[3]]"},
                                                                    {"counts", "[[1,2],[3,-4]]"},
                                                                    {"counts", "[[1,2],[3,0.5]]"},
                                                                    {"counts", "[[1,2],5]"},
                                                                    {"counts", ""}})
        EXPECT_FALSE(read_confusion(changed(text, field, value))) << field << " " << value;
}

TEST(Records, rasters_and_sessions) {
    const std::string raster = R"({"step":1,"floss_step":0,"neurons":3,"steps":4,"shown":[0,2],"spikes":[[1,4],[]]})";
    EXPECT_EQ(*read_raster(raster), Json::parse(raster));
    for (const auto& [field, value] :
         std::initializer_list<std::pair<const char*, const char*>>{{"step", "\"a\""},
                                                                    {"neurons", "0"},
                                                                    {"steps", "0"},
                                                                    {"steps", "3"},
                                                                    {"shown", "[0]"},
                                                                    {"shown", "[0,3]"},
                                                                    {"shown", "5"},
                                                                    {"spikes", "[[1]]"},
                                                                    {"spikes", "[[1],\"a\"]"},
                                                                    {"spikes", "[[1],[-1]]"},
                                                                    {"spikes", "[[1],[1.5]]"},
                                                                    {"spikes", "{}"},
                                                                    {"spikes", ""},
                                                                    {"shown", ""},
                                                                    {"neurons", ""}})
        EXPECT_FALSE(read_raster(changed(raster, field, value))) << field << " " << value;
    const std::string session =
        R"({"started":"a","build":"b","grid":"1x1","threads":1,"backend":"cpu","precision":"fp32",)"
        R"("communicator":"mpi","ranks":[{"host":"h","device":"d"}]})";
    EXPECT_EQ(*read_session(session), Json::parse(session));
    const std::string deep =
        R"([{"host":"h","device":"d","x":)" + std::string(300000, '[') + std::string(300000, ']') + "}]";
    const std::size_t at = session.find("[{");
    EXPECT_EQ(*read_session(session.substr(0, at) + deep + "}"), Json::parse(session));
    for (const auto& [field, value] :
         std::initializer_list<std::pair<const char*, const char*>>{{"ranks", "[]"},
                                                                    {"ranks", "5"},
                                                                    {"ranks", "[{\"host\":\"h\"}]"},
                                                                    {"ranks", "[{\"host\":1,\"device\":\"d\"}]"},
                                                                    {"ranks", ""},
                                                                    {"grid", "5"},
                                                                    {"threads", "\"a\""},
                                                                    {"warning", "5"}})
        EXPECT_FALSE(read_session(changed(session, field, value))) << field << " " << value;
}

class RunRecordsTest : public testing::Test {
protected:
    RunRecordsTest() : place_(fs::temp_directory_path() / ("spikefloss_records_" + std::to_string(::getpid()))) {
        fs::create_directories(place_ / "run");
        write("config.toml", to_toml(Config(), false));
    }
    ~RunRecordsTest() override { fs::remove_all(place_); }
    void write(const char* name, const std::string& text) const { std::ofstream(place_ / "run" / name) << text; }
    std::string run() const { return (place_ / "run").string(); }

    fs::path place_;
};

TEST_F(RunRecordsTest, broken_ones_are_left_out_and_counted) {
    write("metrics.jsonl", training + "\n{\"step\":5,\"kind\":null}\n" + changed(training, "loss", '"' + tag + '"') +
                               "\n\n" + changed(training, "step", "6") + "\n" + training.substr(0, 20));
    write("diagnostics.jsonl", changed(diagnosis, "exponents", "\"x\"") + "\n" + diagnosis + "\n");
    write("raster.json", "[1]");
    write("confusion.json", "[2]");
    RunRecords records(run());
    records.read();
    EXPECT_EQ(records.count(), 3u);
    EXPECT_EQ(records.training()["step"], 6);
    EXPECT_EQ(records.damage(),
              "damaged and left out: 3 lines of metrics.jsonl, 1 line of diagnostics.jsonl, raster.json, "
              "confusion.json");
    const Json page = Json::parse(records.json(nullptr));
    EXPECT_EQ(page["metrics"]["lines"].size(), 2u);
    EXPECT_EQ(page["diagnostics"]["lines"].size(), 1u);
    EXPECT_EQ(page["spectrum"], Json::parse(diagnosis));
    EXPECT_EQ(page["raster"], nullptr);
    EXPECT_EQ(page["confusion"], nullptr);
    EXPECT_EQ(page["damage"], records.damage());
    EXPECT_EQ(page.dump().find("onerror"), std::string::npos);
    // An unfinished line, and the lines after a file has started again.
    write("metrics.jsonl", training + "\n");
    write("diagnostics.jsonl", diagnosis + "\n");
    write("raster.json", R"({"step":1,"floss_step":0,"neurons":3,"steps":4,"shown":[0],"spikes":[[1]]})");
    write("confusion.json", R"({"step":1,"data":"test","counts":[[5]]})");
    records.read();
    EXPECT_EQ(records.damage(), "");
    EXPECT_EQ(records.count(), 2u);
    EXPECT_EQ(Json::parse(records.json(nullptr))["raster"]["neurons"], 3);
    EXPECT_EQ(Json::parse(records.json(nullptr))["confusion"]["counts"][0][0], 5);
}

TEST_F(RunRecordsTest, name_of_the_directory) {
    write("metrics.jsonl", training + "\n");
    fs::current_path(place_ / "run");
    for (const std::string& name : {run(), run() + "/", run() + "//.", std::string("."), std::string("../run/")})
        EXPECT_EQ(Json::parse(RunRecords(name).json(nullptr))["name"], "run") << name;
    fs::current_path("/");
}

TEST_F(RunRecordsTest, the_end_of_a_long_log) {
    std::string log;
    for (int i = 0; i < 50000; ++i) log += "line " + std::to_string(i) + "\n";
    write("log.txt", log);
    const Json lines = Json::parse(RunRecords(run()).json(nullptr))["log"];
    ASSERT_EQ(lines.size(), 12u);
    EXPECT_EQ(lines[0], "line 49988");
    EXPECT_EQ(lines[11], "line 49999");
    write("log.txt", "one\ntwo\n");
    EXPECT_EQ(Json::parse(RunRecords(run()).json(nullptr))["log"], Json({"one", "two"}));
}

// A line is read back as it was written.
TEST(Records, are_what_the_program_writes) {
    MetricsEntry entry;
    entry.report.step = 3;
    entry.test = Outcome{};
    EXPECT_TRUE(read_record(metrics_line(entry), RecordKind::metrics)) << metrics_line(entry);
    entry.report.outcome.loss = std::numeric_limits<double>::quiet_NaN();
    EXPECT_TRUE(read_record(metrics_line(entry), RecordKind::metrics)) << metrics_line(entry);
    entry.report.flossing = true;
    EXPECT_TRUE(read_record(metrics_line(entry), RecordKind::metrics)) << metrics_line(entry);
}

TEST(Page, data_cannot_end_their_element) {
    EXPECT_EQ(safe_in_script("{\"a\":\"</script><!--&\"}"), "{\"a\":\"\\u003c/script\\u003e\\u003c!--\\u0026\"}");
    EXPECT_EQ(safe_in_script("\xe2\x80\xa8|\xe2\x80\xa9|\xe2\x80\xaa|\xe2\x80"),
              "\\u2028|\\u2029|\xe2\x80\xaa|\xe2\x80");
    const std::string text = "a < b > c & \xe2\x80\xa8 \xe2\x80\x93";
    EXPECT_EQ(Json::parse(safe_in_script(Json(text).dump())), text);
    const std::string page = page_text(Json({{"name", "</script><script>alert(1)</script>/*script*/"}}).dump());
    EXPECT_EQ(page.find("<script>alert"), std::string::npos);
    EXPECT_NE(page.find("u003cscript\\u003ealert(1)"), std::string::npos);
}

// Hashes are tested in a browser. Here: only hashes allow code.
TEST(Page, policy) {
    const std::string policy = page_policy();
    EXPECT_EQ(policy.find("unsafe"), std::string::npos);
    EXPECT_EQ(policy.find("default-src 'none'; script-src 'sha256-"), 0u);
    EXPECT_NE(page_text("{}").find("content=\"" + policy + "\""), std::string::npos);
    for (std::size_t at = policy.find("sha256-"); at != std::string::npos; at = policy.find("sha256-", at + 1)) {
        EXPECT_EQ(policy.find('\'', at) - at, 7u + 44u);  // 32 bytes in base64
        EXPECT_EQ(policy[at + 7 + 43], '=');
    }
}

}  // namespace
}  // namespace spikefloss
