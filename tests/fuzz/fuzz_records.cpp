// The bytes are a record or another small file of a run directory, read back for the page, --resume and collect.
#include "fuzz/fuzz.hpp"
#include "io/record.hpp"
#include "watching/page.hpp"

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace spikefloss;
    const std::string text = fuzz::text_of(data, size);
    fuzz::read_or_refuse([&] {
        for (const RecordKind kind : {RecordKind::metrics, RecordKind::diagnostics})
            if (const auto record = read_record(text, kind)) {
                if (!(*record)["step"].is_number_integer()) std::abort();
                safe_in_script(record->dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
            }
        read_raster(text);
        read_confusion(text);
        read_session(text);
        if (safe_in_script(text).find("</") != std::string::npos) std::abort();
    });
    return 0;
}
