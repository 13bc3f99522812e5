// Tables of numbers and words as text: parsed into columns and formatted from them, about ten times faster than strtod
// and printf. Numbers are written with the fewest digits that give the same double when read again.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace py = pybind11;

namespace {

bool blank(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v'; }

template <class T>
bool number(const char* begin, const char* end, T& value) {
    if (end - begin > 1 && *begin == '+' && begin[1] != '-') ++begin;
    const auto result = std::from_chars(begin, end, value);
    return result.ec == std::errc() && result.ptr == end;
}

struct Word {
    int64_t offset;
    int32_t length;
};

struct Column {
    char kind;
    std::vector<int64_t> integers;
    std::vector<double> reals;
    std::vector<Word> words;
};

// The columns of the first `rows` lines of `block`, a letter of `kinds` a column: i int64, f float64, s bytes, - skipped.
// Returns (columns, None), or (None, (row, column, words found, word)) at the first line that does not fit: column -1
// where words are missing, -2 where the lines are at an end.
py::tuple parse_table(const py::bytes& block, const std::string& kinds, int64_t rows) {
    const std::string_view text = block;
    const char* const begin = text.data();
    const char* const end = begin + text.size();
    std::vector<Column> columns(kinds.size());
    for (size_t c = 0; c < kinds.size(); ++c) {
        columns[c].kind = kinds[c];
        if (kinds[c] == 'i') columns[c].integers.resize(rows);
        else if (kinds[c] == 'f') columns[c].reals.resize(rows);
        else if (kinds[c] == 's') columns[c].words.resize(rows);
        else if (kinds[c] != '-') throw py::value_error("kinds are made of i, f, s and -");
    }
    int64_t bad_row = -1, bad_column = 0, found = 0;
    std::string_view bad_word;
    {
        py::gil_scoped_release release;
        const char* at = begin;
        for (int64_t row = 0; row < rows && bad_row < 0; ++row) {
            if (at == end) {
                bad_row = row;
                bad_column = -2;
                break;
            }
            for (size_t c = 0; c < columns.size(); ++c) {
                while (at < end && blank(*at)) ++at;
                const char* const word = at;
                while (at < end && !blank(*at) && *at != '\n') ++at;
                if (at == word) {
                    bad_row = row, bad_column = -1, found = static_cast<int64_t>(c);
                    break;
                }
                Column& column = columns[c];
                bool good = true;
                if (column.kind == 'f') good = number(word, at, column.reals[row]);
                else if (column.kind == 'i') good = number(word, at, column.integers[row]);
                else if (column.kind == 's') column.words[row] = {word - begin, static_cast<int32_t>(at - word)};
                if (!good) {
                    bad_row = row, bad_column = static_cast<int64_t>(c), bad_word = std::string_view(word, at - word);
                    break;
                }
            }
            if (bad_row >= 0) break;
            const void* line_end = std::memchr(at, '\n', end - at);
            at = line_end ? static_cast<const char*>(line_end) + 1 : end;
        }
    }
    if (bad_row >= 0) return py::make_tuple(py::none(), py::make_tuple(bad_row, bad_column, found, py::bytes(bad_word)));
    py::list out;
    for (const Column& column : columns) {
        if (column.kind == 'i') {
            out.append(py::array_t<int64_t>(rows, column.integers.data()));
        } else if (column.kind == 'f') {
            out.append(py::array_t<double>(rows, column.reals.data()));
        } else if (column.kind == 's') {
            int32_t longest = 1;
            for (const Word& word : column.words) longest = std::max(longest, word.length);
            py::array array(py::dtype("S" + std::to_string(longest)), rows);
            char* target = static_cast<char*>(array.mutable_data());
            std::memset(target, 0, static_cast<size_t>(rows) * longest);
            for (int64_t row = 0; row < rows; ++row) {
                std::memcpy(target + row * longest, begin + column.words[row].offset, column.words[row].length);
            }
            out.append(array);
        }
    }
    return py::make_tuple(out, py::none());
}

// Lines of the columns, blanks between: each (rows, k), C-contiguous, int64, float64 or bytes (S).
py::bytes format_table(const py::list& arrays) {
    struct Source {
        char kind;
        int64_t width, size;
        const char* data;
    };
    std::vector<Source> sources;
    int64_t rows = -1, items = 0;
    for (const auto& item : arrays) {
        const auto array = py::cast<py::array>(item);
        const char kind = array.dtype().kind();
        const bool known = kind == 'S' || ((kind == 'i' || kind == 'f') && array.itemsize() == 8);
        if (array.ndim() != 2 || !known || !(array.flags() & py::array::c_style)) {
            throw py::value_error("columns are C-contiguous (rows, k) arrays of int64, float64 or bytes");
        }
        if (rows >= 0 && array.shape(0) != rows) throw py::value_error("columns differ in length");
        rows = array.shape(0);
        items += array.shape(1);
        sources.push_back({kind, array.shape(1), array.itemsize(), static_cast<const char*>(array.data())});
    }
    std::string out;
    {
        py::gil_scoped_release release;
        out.reserve(static_cast<size_t>(std::max<int64_t>(rows, 0) * items) * 14);
        char buffer[40];
        for (int64_t row = 0; row < rows; ++row) {
            bool first = true;
            for (const Source& source : sources) {
                for (int64_t k = 0; k < source.width; ++k) {
                    if (!first) out.push_back(' ');
                    first = false;
                    const char* const item = source.data + (row * source.width + k) * source.size;
                    if (source.kind == 'S') {
                        out.append(item, strnlen(item, source.size));
                    } else if (source.kind == 'i') {
                        int64_t value;
                        std::memcpy(&value, item, 8);
                        out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
                    } else {
                        double value;
                        std::memcpy(&value, item, 8);
                        out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
                    }
                }
            }
            out.push_back('\n');
        }
    }
    return py::bytes(out);
}

}  // namespace

PYBIND11_MODULE(_text, m) {
    m.doc() = "Tables as text.";
    m.def("parse_table", &parse_table, py::arg("block"), py::arg("kinds"), py::arg("rows"));
    m.def("format_table", &format_table, py::arg("arrays"));
}
