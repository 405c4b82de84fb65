// The names of kernels, from the symbol table of the executable. It also has static functions, which the dynamic loader
// does not know.
#include "engine.hpp"

#include <cxxabi.h>
#include <elf.h>
#include <link.h>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <map>

namespace emulation {

namespace {

std::uintptr_t base_of_executable() {
    std::uintptr_t base = 0;
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* result) {
            *static_cast<std::uintptr_t*>(result) = info->dlpi_addr;
            return 1;  // the first is the executable
        },
        &base);
    return base;
}

// The functions of the executable, by address.
std::map<std::uintptr_t, std::string> functions() {
    std::ifstream input("/proc/self/exe", std::ios::binary);
    const std::vector<char> file((std::istreambuf_iterator<char>(input)), std::istreambuf_iterator<char>());
    const auto* header = reinterpret_cast<const Elf64_Ehdr*>(file.data());
    const auto* sections = reinterpret_cast<const Elf64_Shdr*>(file.data() + header->e_shoff);
    std::map<std::uintptr_t, std::string> names;
    for (int s = 0; s < header->e_shnum; ++s) {
        if (sections[s].sh_type != SHT_SYMTAB) continue;
        const auto* symbols = reinterpret_cast<const Elf64_Sym*>(file.data() + sections[s].sh_offset);
        const char* texts = file.data() + sections[sections[s].sh_link].sh_offset;
        for (std::size_t i = 0; i < sections[s].sh_size / sizeof(Elf64_Sym); ++i)
            if (ELF64_ST_TYPE(symbols[i].st_info) == STT_FUNC)
                names.emplace(symbols[i].st_value, texts + symbols[i].st_name);
    }
    return names;
}

std::string symbol_at(std::uintptr_t address) {
    static const std::map<std::uintptr_t, std::string> names = functions();
    const auto found = names.find(address);
    return found == names.end() ? "" : found->second;
}

}  // namespace

std::string kernel_name(const void* kernel) {
    const std::string mangled = symbol_at(reinterpret_cast<std::uintptr_t>(kernel) - base_of_executable());
    if (mangled.empty()) {
        char address[32];
        std::snprintf(address, sizeof address, "at %p", kernel);
        return address;
    }
    int status = 0;
    char* demangled = abi::__cxa_demangle(mangled.c_str(), nullptr, nullptr, &status);
    std::string name = demangled ? demangled : mangled;
    std::free(demangled);
    const std::string anonymous = "(anonymous namespace)::";
    for (auto at = name.find(anonymous); at != std::string::npos; at = name.find(anonymous))
        name.erase(at, anonymous.size());
    return name.substr(0, name.find('('));
}

}  // namespace emulation
